/** Which op was the first to give NaN or an infinity: for the message of a run that must stop. */

import type { Device, View } from "./device/device.ts";
import { isReal } from "./dtype.ts";
import type { Shape } from "./shape.ts";

export interface NonFinite {
  readonly op: string;
  readonly inputs: readonly Shape[];
  /** NaN, Infinity or -Infinity: the first in the output. */
  readonly value: number;
  /** All inputs were finite: this op made it. Otherwise it came in with a leaf. */
  readonly fromFinite: boolean;
}

const firstOdd = (values: ArrayLike<number>): number | undefined =>
  Array.from(values).find((x) => !Number.isFinite(x));

/**
 * Runs `body` on `device` and looks at the real outputs of every kernel, in the order of launches.
 * Undefined: all were finite. Every value is read back: for finding a fault, not for training.
 */
export async function firstNonFinite(
  device: Device,
  body: () => void,
): Promise<NonFinite | undefined> {
  const found: Promise<NonFinite | undefined>[] = [];
  const { run } = device;
  const odd = async (views: readonly View[]): Promise<number | undefined> => {
    const real = views.filter(({ dtype }) => isReal(dtype));
    const values = await Promise.all(real.map((view) => device.read(view)));
    return values.map(firstOdd).find((x) => x !== undefined);
  };
  device.run = (definition, call) => {
    const before = odd(call.inputs); // read before a kernel that works in place changes them
    run.call(device, definition, call);
    const after = odd(call.outputs);
    const inputs = call.inputs.map(({ shape }) => shape);
    found.push(
      Promise.all([before, after]).then(([came, value]) =>
        value === undefined
          ? undefined
          : { op: definition.name, inputs, value, fromFinite: came === undefined },
      ),
    );
  };
  try {
    body();
  } finally {
    device.run = run;
  }
  return (await Promise.all(found)).find((x) => x !== undefined);
}
