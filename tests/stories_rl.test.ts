/** GRPO on adapters of stories260K raises a checkable reward on names that it never trained on. */

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { loadModel } from "../model/checkpoint.ts";
import { sample } from "../model/sample.ts";
import { runCommand } from "./support/command.ts";
import { scratchFolder } from "./support/disk.ts";
import { assetFolder } from "./tiny_model.ts";

const model = assetFolder("models/stories260K", 1);
if (model !== undefined) {
  test("its stories are about somebody happy, and the tuned folder opens by itself", async () => {
    const { path: folder } = scratchFolder();
    mkdirSync(folder, { recursive: true });
    const names =
      "Lily Tim Tom Mia Ben Sue Max Anna Sam Lucy Jack Amy Bob Sara Leo Emma Dan Kate Joe Mary Fred Jane Nick Rose".split(
        " ",
      );
    const lines = names.flatMap((entity) =>
      [`One day, ${entity} went to the park and saw`, `${entity} had a big red ball.`].map(
        (question) => JSON.stringify({ question, answers: ["happy"], entity }),
      ),
    );
    writeFileSync(join(folder, "prompts.jsonl"), lines.join("\n"));
    const { code, text } = runCommand(folder, "train.ts", [
      ...["--model", model, "--data", "prompts.jsonl", "--data.prompt", "raw", "--deterministic"],
      ...["--reward", "contains", "--lora", "8", "--optimizer.learning-rate", "2e-3"],
      ...["--train.steps", "10", "--train.questions-per-step", "16", "--train.group-size", "8"],
      ...["--train.max-new-tokens", "24", "--optimizer.warmup", "2", "--no-track.tensorboard"],
      ...["--evaluate.accessibility-samples", "4", "--evaluate.pass-at-k-samples", "4"],
      ...["--evaluate.pass-at-k", "1,4", "--data.validation-share", "0.3", "--out", "run"],
    ]);
    assert.equal(code, 0, text);
    const summary = JSON.parse(readFileSync(join(folder, "run", "summary.json"), "utf8"));
    const { n, before, after } = summary.heldout;
    assert.equal(n, 14);
    assert.ok(after - before >= 0.4, `${before} -> ${after}`);
    const tuned = loadModel(join(folder, "run", "model"));
    const prompt = tuned.tokenizer!.encode("One day, Zoe went to the park and saw");
    const options = { maxNewTokens: 24, temperature: 1, samplesPerPrompt: 16, seed: 1 };
    const count = async ({ config, parameters, tokenizer }: typeof tuned) => {
      const { tokens } = await sample(parameters, config, [prompt], options);
      return tokens.filter((ids) => /\bhappy\b/i.test(tokenizer!.decode(ids))).length;
    };
    const [old, now] = [await count(loadModel(model)), await count(tuned)];
    assert.ok(now > old + 2, `happy in ${old} of 16 stories before, in ${now} after`);
  });
}
