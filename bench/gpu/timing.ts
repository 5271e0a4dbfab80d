/** Seconds of one call on the GPU: many calls between two looks at the clock, the best of three. */

import type { WebGpuDevice } from "../../tensor/device/webgpu/device.ts";

/** By the GPU's own time stamps where it has them, else by the clock. */
export async function secondsOf(
  device: WebGpuDevice,
  quick: boolean,
  run: () => void,
): Promise<number> {
  const wanted = quick ? 0.02 : 0.3;
  run(); // compiles the programs, takes the memory
  let calls = 1;
  let best = Infinity;
  for (let taken = 0; taken < (quick ? 1 : 3); ) {
    const { gpu, wall } = await device.timed(() => {
      for (let call = 0; call < calls; call++) run();
    });
    const seconds = gpu ?? wall;
    if (wall < wanted && calls < 512) {
      calls = Math.min(512, Math.ceil(calls * Math.max(2, wanted / wall)));
      continue;
    }
    taken++;
    best = Math.min(best, seconds / calls);
  }
  return best;
}
