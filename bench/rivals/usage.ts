/** How many cores a participant keeps busy while it is timed, and while others are. */

import { cpus } from "node:os";
import type { Busy } from "./results.ts";

/** What is asked of a participant here. */
export interface Metered {
  cpuMs(): number | undefined;
}

interface Total {
  cpu: number;
  wall: number;
}

/** Milliseconds in which the machine's cores were not idle. */
function busyMs(): number {
  const all = cpus().map(({ times: { idle, ...rest } }) => Object.values(rest));
  return all.flat().reduce((sum, ms) => sum + ms, 0);
}

export class Usage<T extends Metered> {
  readonly #timed = new Map<T, Total>();
  readonly #idle = new Map<T, Total>();
  readonly #strangers: Total = { cpu: 0, wall: 0 };

  /** Runs `turn`, in which `active` is timed and all others should sleep. */
  async during<R>(active: T, everyone: Iterable<T>, turn: () => Promise<R>): Promise<R> {
    const before = [...everyone].map((one) => [one, one.cpuMs()] as const);
    let strange = -busyMs();
    const start = performance.now();
    const result = await turn();
    const wall = performance.now() - start;
    strange += busyMs();
    for (const [one, earlier] of before) {
      const now = one.cpuMs();
      if (now === undefined || earlier === undefined) continue;
      strange -= now - earlier;
      const totals = one === active ? this.#timed : this.#idle;
      const { cpu, wall: sum } = totals.get(one) ?? { cpu: 0, wall: 0 };
      totals.set(one, { cpu: cpu + now - earlier, wall: sum + wall });
    }
    if (active.cpuMs() === undefined) return result;
    this.#strangers.cpu += strange;
    this.#strangers.wall += wall;
    return result;
  }

  /** Cores that programs which don't take part kept busy meanwhile; undefined if unknown. */
  strangers(): number | undefined {
    const { cpu, wall } = this.#strangers;
    return wall === 0 ? undefined : Math.max(0, cpu / wall);
  }

  /** Undefined for a participant that was never timed. */
  of(one: T): Busy | undefined {
    const [timed, idle] = [this.#timed.get(one), this.#idle.get(one)];
    if (timed === undefined) return undefined;
    return { timed: timed.cpu / timed.wall, idle: idle ? idle.cpu / idle.wall : 0 };
  }
}
