/** The ceiling of products with one row: how fast a matrix can be read once and summed. */
import type { ModuleBuilder } from "../tensor/device/wasm/assembler.ts";
import { f32x4, i32, v128 } from "../tensor/device/wasm/assembler.ts";
import type { Machine } from "../tensor/device/wasm/machine.ts";

const VECTORS = 8;
const UNIT_FLOATS = 4 * VECTORS;
const UNIT_BYTES = 4 * UNIT_FLOATS;
/** Each chunk leaves its sums on lines of its own. */
const CHUNKS = 16;

/** Adds up units of 32 floats, by 8 vectors side by side: loads and additions only. */
export function emitStream(m: ModuleBuilder): void {
  const parameters = { x: "i32", to: "i32", grain: "i32", begin: "i32", end: "i32" } as const;
  m.function("f32_stream_sum", parameters, (f, { x, to, grain, begin, end }) => {
    const at = f.local("i32", i32.add(x, i32.mul(begin, UNIT_BYTES)), "at");
    const last = f.local("i32", i32.add(x, i32.mul(end, UNIT_BYTES)), "last");
    const target = i32.add(to, i32.mul(i32.divU(begin, grain), UNIT_BYTES));
    const line = f.local("i32", target, "line");
    const sums = Array.from({ length: VECTORS }, (_, v) =>
      f.local("v128", f32x4.const(0), `sum${v}`),
    );
    f.for(at, at, last, UNIT_BYTES, () => {
      for (const [v, sum] of sums.entries()) f.set(sum, f32x4.add(sum, v128.load(at, 16 * v)));
    });
    for (const [v, sum] of sums.entries()) f.store("v128", line, sum, 16 * v);
  });
}

/** Reads `size` floats (whole units of them), shared among the threads like a product's B. */
export function prepareStream(machine: Machine, size: number) {
  const units = Math.floor(size / UNIT_FLOATS);
  const x = machine.arena.allocate(units * UNIT_BYTES);
  const to = machine.arena.allocate(CHUNKS * UNIT_BYTES);
  machine.f32.fill(0.5, x / 4, x / 4 + units * UNIT_FLOATS);
  const grain = Math.ceil(units / machine.threads);
  const work = (units * UNIT_BYTES) / 80; // nanoseconds, at 80 GB/s
  return {
    bytes: units * UNIT_BYTES,
    run: () => machine.parallel("f32_stream_sum", [x, to, grain], units, { grain, work }),
    free: () => {
      for (const address of [x, to]) machine.arena.free(address);
    },
  };
}
