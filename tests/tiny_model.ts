/** What the model tests share: a tiny model, the devices to run on, and where the assets lie. */

import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { type ModelConfig, type ModelConfigInput, parseConfig } from "../model/config.ts";
import { initialParameters } from "../model/parameters.ts";
import {
  currentDevice,
  type Device,
  randomStream,
  reference,
  type Tensor,
  tensor,
  useDevice,
} from "../tensor/mod.ts";

/** Two blocks, four query heads on two key-value heads, 23 words. */
export function tinyConfig(changes: Partial<ModelConfigInput> = {}): ModelConfig {
  return parseConfig({
    model_type: "llama",
    vocab_size: 23,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 64,
    tie_word_embeddings: true,
    ...changes,
  });
}

/** Large start values and uneven norms: predictions far from uniform, no two weights alike. */
export function tinyModel(changes: Partial<ModelConfigInput> = {}): {
  config: ModelConfig;
  parameters: Map<string, Tensor>;
} {
  const config = tinyConfig({ initializer_range: 0.3, ...changes });
  const parameters = initialParameters(config, { seed: 7 });
  for (const [name, t] of parameters) {
    if (t.rank > 1) continue;
    const stream = randomStream({ seed: 7, purpose: name });
    const least = name.endsWith(".bias") ? -0.5 : 0.5;
    const values = Float32Array.from({ length: t.size }, () => least + stream.uniform());
    t.dispose();
    parameters.set(name, tensor(values, t.shape));
  }
  return { config, parameters };
}

/** The reference device, and the default one where that is another. */
export const devices: readonly Device[] = [...new Set([reference, currentDevice()])];

/** One test for each device, which is the current one while the body runs. */
export function onDevices(name: string, body: (device: Device) => void | Promise<void>): void {
  for (const device of devices) {
    test(`${name} (${device.name})`, async () => {
      const before = useDevice(device);
      try {
        await body(device);
      } finally {
        useDevice(before);
      }
    });
  }
}

/**
 * Buffers that `body` allocates and doesn't free. Not a difference of liveBuffers: that also falls
 * when the garbage of an earlier test is collected meanwhile.
 */
export async function leftBehind(device: Device, body: () => unknown): Promise<number> {
  const made = new Set<unknown>();
  const { allocate, free } = device;
  device.allocate = (elements, dtype) => {
    const buffer = allocate.call(device, elements, dtype);
    made.add(buffer);
    return buffer;
  };
  device.free = (buffer) => {
    made.delete(buffer);
    free.call(device, buffer);
  };
  try {
    await body();
    return made.size;
  } finally {
    Object.assign(device, { allocate, free });
  }
}

/** Largest rounding error that a comparison of two ways to compute may show. */
export const toleranceOn = (device: Device): number => (device === reference ? 1e-12 : 2e-5);

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const assets = resolve(root, process.env.ANAMNESIS_ASSETS ?? "../shared");

/** The path of an asset folder; where it is absent, says which tests are skipped, and how many. */
export function assetFolder(name: string, tests: number): string | undefined {
  const folder = join(assets, name);
  if (existsSync(folder)) return folder;
  console.log(`skipped ${tests} tests: no ${name} (set ANAMNESIS_ASSETS to its folder)`);
  return undefined;
}
