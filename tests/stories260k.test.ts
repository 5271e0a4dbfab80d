/** stories260K, a small trained Llama: the golden greedy text, logits and loss by our engine. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { loadModel } from "../model/checkpoint.ts";
import { main } from "../model/generate.ts";
import { parameterCount } from "../model/parameters.ts";
import { sample } from "../model/sample.ts";
import { sequenceLogProbs } from "../model/score.ts";
import { hidden, logits } from "../model/transformer.ts";
import { currentDevice, noGrad, tensor } from "../tensor/mod.ts";
import { assetFolder } from "./tiny_model.ts";

interface Golden {
  readonly greedy_ids_201: number[];
  readonly greedy_text: string;
  readonly logits_first_16_positions_first_8: number[][];
  readonly logits_last_of_16_top5: number[][];
  readonly mean_nll_of_greedy_ids_1_to_15: number;
}

const folder = assetFolder("models/stories260K", 5);
if (folder !== undefined) {
  const json = (name: string) => JSON.parse(readFileSync(join(folder, name), "utf8"));
  const golden = json("golden.json") as Golden;
  const { config, parameters, tokenizer } = loadModel(folder);
  const ids = golden.greedy_ids_201;

  test("it has 260,032 parameters", () => {
    assert.equal(parameterCount(parameters), 260_032);
  });

  test("201 greedy tokens and their text are the golden ones", async () => {
    const settings = { maxNewTokens: 200, temperature: 0 };
    const { tokens } = await sample(parameters, config, [[1]], settings);
    assert.deepEqual([1, ...tokens[0]!], ids);
    assert.equal(tokenizer!.decode(ids), golden.greedy_text);
  });

  test("logits of 16 positions are within 1e-4 of the golden ones", () => {
    const tokens = tensor(Int32Array.from(ids.slice(0, 16)), [1, 16]);
    const scores = noGrad(() => logits(parameters, config, hidden(parameters, config, tokens)));
    const [rows] = scores.toArray() as number[][][];
    golden.logits_first_16_positions_first_8.forEach((expected, at) => {
      expected.forEach((x, i) => {
        assert.ok(Math.abs(rows![at]![i]! - x) <= 1e-4, `[${at} ${i}] ${rows![at]![i]}, not ${x}`);
      });
    });
    for (const [id, x] of golden.logits_last_of_16_top5) {
      assert.ok(
        Math.abs(rows![15]![id!]! - x!) <= 1e-4,
        `token ${id}: ${rows![15]![id!]}, not ${x}`,
      );
    }
  });

  test("the loss of the golden text is the golden one", async () => {
    const [found] = await sequenceLogProbs(parameters, config, [[1]], [ids.slice(1, 16)]);
    const loss = -found!.reduce((a, b) => a + b) / 15;
    assert.ok(Math.abs(loss - golden.mean_nll_of_greedy_ids_1_to_15) < 1e-5, String(loss));
  });

  test("generate writes the golden story from its first words", async () => {
    const lines: string[] = [];
    const log = console.log;
    console.log = (text: string) => lines.push(text);
    const flags = ["--model", folder, "--prompt", "Once upon a time", "--temperature", "0"];
    const device = ["--device", currentDevice().name];
    try {
      assert.equal(await main([...flags, "--max-tokens", "40", ...device]), 0);
    } finally {
      console.log = log;
    }
    assert.ok(golden.greedy_text.startsWith(lines[0]!) && lines[0]!.length > 90, lines.join());
  });
}
