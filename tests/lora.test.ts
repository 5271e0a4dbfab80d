/** Adapters: no change at first, merged weights equal adapted ones, gradients, files as PEFT has them. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { sequenceBatch } from "../model/batch.ts";
import {
  adaptedNames,
  adapterFiles,
  type Lora,
  loadAdapters,
  loraTargets,
  makeLora,
  mergedSource,
  mergedWeight,
  withAdapters,
} from "../model/lora.ts";
import {
  gradientsOf,
  initialParameters,
  type ParameterTree,
  requireGradients,
} from "../model/parameters.ts";
import { decodeSafetensors } from "../model/safetensors.ts";
import { batchLogProbs } from "../model/score.ts";
import { noGrad, randomStream, reference, scope, tensor } from "../tensor/mod.ts";
import { tinyConfig } from "./tiny_model.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-lora-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const config = tinyConfig({ initializer_range: 0.3 });
const settings = { rank: 2, alpha: 6, targets: ["q_proj", "v_proj", "up_proj"] };
const batch = sequenceBatch([
  [1, 2, 3, 4],
  [5, 6, 7],
]);

/** Adapters whose B is not zero any more, on f64. */
function moved(seed = 1): Lora {
  const base = initialParameters(config, { seed: 7, device: reference });
  const lora = makeLora(config, base, settings, seed);
  const stream = randomStream({ seed, purpose: "moved" });
  const adapters = new Map(
    [...lora.adapters].map(([name, t]) => {
      const values = Float64Array.from({ length: t.size }, () => stream.normal() * 0.3);
      return [name, tensor(values, t.shape, { device: reference })];
    }),
  );
  return withAdapters(base, settings, adapters);
}

describe("adapters", () => {
  test("change nothing at first, and are a function of the seed", () => {
    const base = initialParameters(config, { seed: 7 });
    const lora = makeLora(config, base, settings, 1);
    const find = (tree: ParameterTree) =>
      noGrad(() => batchLogProbs(tree, config, batch)).dataSync();
    assert.deepEqual(find(lora.parameters), find(base));
    const values = (l: Lora) => [...l.adapters.values()].map((t) => Array.from(t.dataSync()));
    assert.deepEqual(values(makeLora(config, base, settings, 1)), values(lora));
    assert.notDeepEqual(values(makeLora(config, base, settings, 2)), values(lora));
    const matrices = adaptedNames(config, settings.targets);
    assert.equal(lora.adapters.size, 2 * matrices.length);
    assert.equal(matrices.length, 3 * config.num_hidden_layers);
    assert.equal(adaptedNames(config, loraTargets).length, 7 * config.num_hidden_layers);
    assert.throws(
      () => adaptedNames(config, ["w_proj"]),
      /no module is named w_proj; there are q_pr/,
    );
  });

  test("merged weights are W + (alpha/rank)·B·A, and say what the adapted tree says", async () => {
    const lora = moved();
    const merged = new Map([...lora.base.keys()].map((name) => [name, mergedWeight(lora, name)]));
    const name = "model.layers.0.self_attn.q_proj";
    const matrix = (part: string) =>
      lora.adapters.get(`${name}.lora_${part}.weight`)!.toArray() as number[][];
    const [A, B] = [matrix("A"), matrix("B")];
    const before = lora.base.get(`${name}.weight`)!.toArray() as number[][];
    const after = merged.get(`${name}.weight`)!.toArray() as number[][];
    for (const [i, row] of before.entries()) {
      for (const [j, w] of row.entries()) {
        const change = A.reduce((sum, line, r) => sum + B[i]![r]! * line[j]!, 0);
        assert.ok(Math.abs(after[i]![j]! - (w + 3 * change)) < 1e-12);
      }
    }
    const untouched = "model.layers.0.self_attn.k_proj.weight";
    assert.deepEqual(merged.get(untouched)!.dataSync(), lora.base.get(untouched)!.dataSync());
    const said = (tree: ParameterTree) =>
      Array.from(noGrad(() => batchLogProbs(tree, config, batch)).dataSync());
    const whole = said(merged);
    said(lora.parameters).forEach((x, i) => {
      assert.ok(Math.abs(x - whole[i]!) < 1e-12, `${x} and ${whole[i]}`);
    });
    const source = mergedSource(lora);
    assert.deepEqual([...source.shapes.keys()], [...lora.base.keys()]);
    for (const [name, t] of merged) {
      assert.deepEqual(await source.values(name), Float32Array.from(t.dataSync()), name);
    }
  });

  test("gradients reach them and nothing else, and are those of central differences", () => {
    const lora = moved();
    const loss = () => scope(() => batchLogProbs(lora.parameters, config, batch).sum());
    requireGradients(lora.adapters);
    const slopes = gradientsOf(loss(), lora.adapters);
    assert.ok([...lora.base.values()].every((t) => t.variable === undefined));
    for (const [name, t] of lora.adapters) {
      const values = Array.from(t.dataSync());
      for (const at of [0, values.length - 1]) {
        const moved = (step: number) => {
          const changed = values.map((x, i) => (i === at ? x + step : x));
          const other = new Map(lora.adapters);
          other.set(name, tensor(changed, t.shape, { device: reference }));
          const tree = withAdapters(lora.base, settings, other);
          return noGrad(() =>
            scope(() => batchLogProbs(tree.parameters, config, batch).sum()),
          ).item();
        };
        const expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert.ok(Math.abs(slopes.get(name)!.dataSync()[at]! - expected) < 1e-6, name);
      }
    }
  });

  test("are saved under PEFT's names, and come back", async () => {
    const lora = moved();
    const files = await adapterFiles(lora);
    const stored = JSON.parse(new TextDecoder().decode(files["adapter_config.json"]));
    const { peft_type, r, lora_alpha, target_modules } = stored;
    assert.deepEqual([peft_type, r, lora_alpha, target_modules], ["LORA", 2, 6, settings.targets]);
    const { tensors } = decodeSafetensors(files["adapter_model.safetensors"]!, "file");
    const name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    assert.deepEqual(tensors.get(name)!.shape, [2, config.hidden_size]);
    const path = join(folder, "adapter_model.safetensors");
    writeFileSync(path, files["adapter_model.safetensors"]!);
    const fresh = makeLora(config, lora.base, settings, 9);
    loadAdapters(path, fresh);
    for (const [own, t] of fresh.adapters) {
      assert.deepEqual(
        Array.from(t.dataSync(), Math.fround),
        Array.from(lora.adapters.get(own)!.dataSync(), Math.fround),
      );
    }
    const wider = makeLora(config, lora.base, { ...settings, rank: 3 }, 9);
    assert.throws(
      () => loadAdapters(path, wider),
      /q_proj.lora_A.weight is \[2 \d+\], expected \[3/,
    );
  });
});
