/** docs/SCALE.md: is what its script makes, counts published parameters, and counts what is measured. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { bytesOfStages, countRun, on, peakOf, zeroParameters } from "../bench/scale/count.ts";
import { CountingDevice } from "../bench/scale/counting_device.ts";
import { scaleDocument } from "../bench/scale/document.ts";
import { gpusFor, productRate } from "../bench/scale/machines.ts";
import { modelNamed, models, parametersOf } from "../bench/scale/models.ts";
import { type Counted, recorded, settingsNamed } from "../bench/scale/record.ts";
import { runStages, variants, workload } from "../bench/scale/step.ts";
import { Tally } from "../bench/scale/tally.ts";
import { flopsPerToken, modelOf, randomBatch } from "../bench/support.ts";
import { AdamW } from "../model/optimizer.ts";
import { parameterCount } from "../model/parameters.ts";
import { pretrain } from "../model/pretrain.ts";
import { resolveConfig } from "../rl/resolve.ts";
import { root } from "../scripts/tree.ts";
import { WasmDevice } from "../tensor/device/wasm/device.ts";

const read = (path: string): string => readFileSync(join(root, path), "utf8");
const anew = "bun run bench/scale_on_paper.ts --write";

describe("docs/SCALE.md", () => {
  test("is what the script makes of its records", () => {
    const values = recorded();
    assert.ok(values !== undefined, `bench/scale.json is missing: ${anew}`);
    const wanted = scaleDocument(values, read);
    assert.ok(read("docs/SCALE.md") === wanted, `docs/SCALE.md is out of date: ${anew}`);
    assert.ok(wanted.split("\n").length <= 250);
    assert.deepEqual(
      Object.keys(values.counted),
      models.map(({ name }) => name),
    );
  });
  test("has commands whose flags there are", () => {
    const commands = read("docs/SCALE.md").match(/rl\/(train|export)\.ts [^`]+/g) ?? [];
    assert.ok(commands.length >= 4);
    for (const command of commands) {
      const words = command.replace(/--(to|out) \S+ ?/g, "").split(" ");
      const found = resolveConfig(words.slice(1).map((word) => word.replaceAll("**", "")));
      assert.ok(found.help === null && found.config.data?.model === "FOLDER", command);
    }
  });
  // The others are counted by the same code; all of them take minutes.
  for (const [model, variant] of [
    ["Qwen2.5-0.5B", "SFT"],
    ["Qwen2.5-0.5B", "GRPO, LoRA"],
    ["Qwen2.5-72B", "SFT, LoRA"],
  ] as const) {
    test(`has what ${variant} of ${model} takes by the present code`, async () => {
      const { runs } = recorded()!.counted[model] as Counted;
      const found = await countRun(modelNamed(model).config, settingsNamed(variant));
      assert.deepEqual(JSON.parse(JSON.stringify(found)), runs[variant], anew);
    });
  }
});

describe("models", () => {
  test("have as many parameters as is published", () => {
    const published = { "Qwen2.5-0.5B": "0.494", "Qwen2.5-7B": "7.62", "Qwen2.5-72B": "72.7" };
    for (const [name, billions] of Object.entries(published)) {
      const found = parametersOf(modelNamed(name).config) / 1e9;
      assert.equal(found.toPrecision(3), billions, name);
    }
    assert.equal(parametersOf(modelNamed("SmolLM2-135M").config), 134_515_008);
  });
  test("count their parameters as their trees do", async () => {
    await on(new CountingDevice(), async () => {
      for (const { config } of models) {
        assert.equal(parameterCount(zeroParameters(config)), parametersOf(config));
      }
    });
  });
});

describe("the counting device", () => {
  test("needs to the byte what the wasm device needs, for every method", async () => {
    const { config } = modelNamed("demo");
    for (const { name, settings } of variants) {
      const counted = await countRun(config, settings, "f32", 8);
      const device = new WasmDevice({ threads: 1 });
      const measured = await on(device, () =>
        bytesOfStages(device.machine.arena, (stage) =>
          runStages(config, zeroParameters(config), workload(config, settings, 8), stage),
        ),
      );
      assert.equal(measured.held, counted.held, name);
      assert.equal(peakOf(measured), peakOf(counted), name);
    }
  });
  test("counts the operations of a training step that formulas give", async () => {
    const size = { width: 64, depth: 3, vocabulary: 256 };
    const device = new CountingDevice();
    await on(device, async () => {
      const tally = new Tally();
      device.onLaunch = (work) => tally.add(work);
      const { config, parameters, inner } = modelOf(size);
      using optimizer = new AdamW(parameters);
      const batch = randomBatch(4, 32, size.vocabulary);
      await pretrain({
        ...{ parameters, config, optimizer, steps: 1 },
        ...{ batches: () => batch, schedule: () => 1e-3 },
      });
      const formula = flopsPerToken(size, inner, { positions: 32, training: true });
      // The gradient of the first layer's input is made too, norms and biases are no products.
      const ratio = tally.flops / (4 * 32 * formula);
      assert.ok(Math.abs(ratio - 1) < 0.01, `${ratio}`);
    });
  });
  test("gives buffers back: nothing of a run is left but the base model", async () => {
    const device = new CountingDevice();
    await on(device, async () => {
      const { config } = modelNamed("demo");
      const run = async () => {
        const parameters = zeroParameters(config);
        await runStages(config, parameters, workload(config, settingsNamed("GRPO"), 8), () => {});
        for (const t of parameters.values()) t.dispose();
      };
      await run(); // makes the tables of angles
      const { liveBytes, liveBuffers } = device;
      await run();
      assert.deepEqual([device.liveBytes, device.liveBuffers], [liveBytes, liveBuffers]);
    });
  });
});

test("a kind of launches takes as long as what it has more of", () => {
  const tally = new Tally();
  tally.add({ op: "matmul", flops: 1e9, bytes: 1e6 });
  tally.add({ op: "matmul", flops: 2e9, bytes: 2e6 });
  tally.add({ op: "add", flops: 0, bytes: 4e9 });
  assert.equal(tally.seconds({ flops: 1e9, bytes: 1e9 }), 3 + 4);
  assert.equal(tally.seconds({ flops: 1e12, bytes: 1e6 }), 3 + 4000);
  assert.deepEqual(new Tally(tally.kinds).kinds, tally.kinds);
});

test("figures of bench/RESULTS.md are found by their names, or missed", () => {
  assert.ok(productRate(read, "anamnesis, Node") > 10);
  assert.ok(productRate(read, "anamnesis --wide, Node") > productRate(read, "anamnesis, Node"));
  assert.throws(() => productRate(read, "abacus"), /bench\/RESULTS\.md.*abacus/);
});

test("GPUs of 80 GB come in powers of two, nine tenths of each used", () => {
  assert.deepEqual([1e9, 72e9, 73e9, 144e9, 145e9].map(gpusFor), [1, 1, 2, 2, 4]);
});
