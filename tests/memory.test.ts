/** Training for long: no buffer more, flat memory. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Batch, sequenceBatch } from "../model/batch.ts";
import { AdamW } from "../model/optimizer.ts";
import { initialParameters } from "../model/parameters.ts";
import { pretrain } from "../model/pretrain.ts";
import { warmupConstant } from "../model/schedule.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { type Device, useDevice } from "../tensor/mod.ts";
import { canCollect, collectGarbage } from "./support/garbage.ts";
import { tinyConfig } from "./tiny_model.ts";

const STEPS = 2000;
/** Steps after which caches are full: what they keep is not growth. */
const SETTLED = 100;
/** Bytes of the JavaScript heap after a collection: a leak of two kilobytes a step would show. */
const HEAP_SLACK = 2 * 2 ** 20;
/** Of the whole process, whose engine gives its young generation more room when it likes. */
const PROCESS_SLACK = 96 * 2 ** 20;
const config = tinyConfig({ num_hidden_layers: 1, hidden_size: 8, intermediate_size: 12 });

/** Eight words of a language in which each has one successor; a function of the step. */
function batches(step: number): Batch {
  const word = (row: number, i: number) => ((step * 5 + row * 7 + i) * 3) % config.vocab_size;
  return sequenceBatch(
    Array.from({ length: 2 }, (_, row) => Array.from({ length: 8 }, (_, i) => word(row, i))),
  );
}

// A device of one's own: others' garbage would blur the counts.
const device = new WasmDevice({ threads: 1 });
let previous: Device;
before(() => {
  previous = useDevice(device);
});
after(() => {
  useDevice(previous);
});

interface Memory {
  readonly liveBuffers: number;
  readonly liveBytes: number;
  readonly peakBytes: number;
  readonly wasmBytes: number;
}
const memory = (): Memory => {
  const { liveBuffers, liveBytes, peakBytes } = device;
  const wasmBytes = device.machine.memory.buffer.byteLength;
  return { liveBuffers, liveBytes, peakBytes, wasmBytes };
};

/** What the process holds: heap after a collection where one can be asked for, and all pages. */
async function processMemory(): Promise<{ heap: number; all: number }> {
  let turns = 0;
  await collectGarbage(() => ++turns > 2);
  const { heapUsed, rss } = process.memoryUsage();
  return { heap: canCollect ? heapUsed : 0, all: rss };
}

test(`${STEPS} training steps end with the buffers and the memory of step ${SETTLED}`, async () => {
  const parameters = initialParameters(config, { seed: 3 });
  using optimizer = new AdamW(parameters, { clipNorm: 1 });
  const schedule = warmupConstant({ peak: 1e-2, warmup: 10 });
  const losses: number[] = [];
  const train = (steps: number) =>
    pretrain({
      ...{ parameters, config, batches, schedule, optimizer, steps },
      onStep: ({ loss }) => losses.push(loss),
    });
  await train(1); // makes the tables of angles, which the process keeps
  const { liveBuffers, liveBytes } = memory();
  await train(SETTLED);
  const settled = memory();
  assert.deepEqual([settled.liveBuffers, settled.liveBytes], [liveBuffers, liveBytes]);
  await train(STEPS / 2);
  const half = await processMemory();
  await train(STEPS);
  assert.deepEqual(memory(), settled);
  const end = await processMemory();
  const [heap, all] = [end.heap - half.heap, end.all - half.all];
  const text = `heap ${(heap / 1024).toFixed()} KiB, process ${(all / 2 ** 20).toFixed(1)} MiB`;
  console.log(`growth over the last ${STEPS / 2} steps: ${text}`);
  assert.ok(heap < HEAP_SLACK && all < PROCESS_SLACK, text);
  assert.ok(losses[0]! > 2.9 && losses.at(-1)! < 0.7, `loss ${losses[0]} -> ${losses.at(-1)}`);
  assert.equal(losses.length, STEPS);
});
