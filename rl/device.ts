/** The device that a run's settings name, as the current one. */

import { setDevice } from "../tensor/mod.ts";
import type { TrainConfig } from "./config.ts";
import { UserError } from "./user_error.ts";

/** Says which GPU it is, for that is not the user's choice alone. */
export async function chooseDevice(config: TrainConfig): Promise<void> {
  const { device, wide, deterministic, matmulPrecision, storage } = config;
  const name = device as Parameters<typeof setDevice>[0];
  const own = device === "wasm" ? { wide, deterministic } : { matmulPrecision };
  const made = await setDevice(name, { ...own, storage }).catch((error: Error) => {
    throw new UserError(error.message);
  });
  if ("description" in made) console.log(`webgpu: ${made.description}`);
}
