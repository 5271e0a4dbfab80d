/** Runs in a browser's page: trains a tiny model on each device, and posts what came of it. */

import { sequenceBatch } from "../../../model/batch.ts";
import { parseConfig } from "../../../model/config.ts";
import { initialParameters } from "../../../model/parameters.ts";
import { pretrain } from "../../../model/pretrain.ts";
import { currentDevice, setDevice } from "../../../tensor/mod.ts";

const config = parseConfig({
  ...{ model_type: "llama", vocab_size: 23, hidden_size: 16, intermediate_size: 24 },
  ...{ num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2 },
  ...{ max_position_embeddings: 64, tie_word_embeddings: true },
});
const batch = sequenceBatch(
  Array.from({ length: 4 }, (_, row) =>
    Array.from({ length: 8 }, (_, i) => (row * 7 + i * i) % 23),
  ),
);

export interface Trained {
  readonly device: string;
  readonly description: string;
  readonly losses: readonly number[];
}

async function train(name: "wasm" | "webgpu"): Promise<Trained> {
  await setDevice(name);
  const device = currentDevice() as { description?: string };
  const losses: number[] = [];
  await pretrain({
    ...{ parameters: initialParameters(config, { seed: 7 }), config, batches: () => batch },
    ...{ schedule: () => 1e-2, steps: 8, optimizer: { clipNorm: 1 } },
    onStep: ({ loss }) => losses.push(loss),
  });
  return { device: name, description: device.description ?? "", losses };
}

const results: (Trained | { device: string; error: string })[] = [];
for (const device of ["wasm", "webgpu"] as const) {
  try {
    results.push(await train(device));
  } catch (error) {
    results.push({ device, error: `${(error as Error).stack ?? error}` });
  }
}
await fetch("/result", { method: "POST", body: JSON.stringify(results) });
