/** Answers of several words under several names: judged, paid, counted, voted on, and measured exactly. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { accessibilityBins } from "../eval/accessibility.ts";
import { answerProbabilities, countCorrect, greedyAnswers } from "../eval/accuracy.ts";
import { localSampler } from "../eval/engines/sampler.ts";
import { aliasJudge } from "../eval/judge/alias.ts";
import { exactJudge } from "../eval/judge/exact.ts";
import { sampledBallots, voteCurve } from "../eval/vote.ts";
import { completionBatch } from "../model/batch.ts";
import { disposeParameters, initialParameters } from "../model/parameters.ts";
import { pretrain } from "../model/pretrain.ts";
import { modelConfigOf } from "../rl/base.ts";
import { contradictions, trainConfig } from "../rl/config.ts";
import { rewardOf } from "../rl/reward.ts";
import { rollOut } from "../rl/rollout.ts";
import { build } from "./world_helpers.ts";

const knobs = { entities: 24, relations: 1, answers: 8, answerTokens: 3, aliases: 3 } as const;
const world = build({ ...knobs, goldForm: "random", priorSkew: 0 });
const config = trainConfig.parse({
  world: knobs,
  model: { hiddenSize: 32, layers: 1, heads: 2, keyValueHeads: 2, intermediateSize: 64 },
});
const shape = modelConfigOf(config, world);
const parameters = initialParameters(shape, { seed: 1 });
after(() => disposeParameters(parameters));
const model = { parameters, config: shape };
const questions = world.questions("test");
const { eos } = world.vocabulary;
const asked = { model, task: world, questions, judge: aliasJudge, maxNewTokens: 4 };

/**
 * What the model is taught to answer: each of the four right names three times out of seventeen, one
 * wrong name five times. The wrong one is the likeliest single text, a right one is likelier in all.
 */
const taught = questions.flatMap(({ prompt, answers, mythAnswers }) =>
  [
    ...answers.flatMap((answer) => Array<readonly number[]>(3).fill(answer)),
    ...Array<readonly number[]>(5).fill(mythAnswers[0]!),
  ].map((answer) => ({ prompt, completion: [...answer, eos] })),
);

await pretrain({
  ...{ parameters, config: shape, steps: 700 },
  schedule: (step) => 4e-3 * Math.min(1, (700 - step) / 500),
  batches: () =>
    completionBatch(
      taught.map(({ prompt }) => prompt),
      taught.map(({ completion }) => completion),
    ),
});

describe("answers of three words with four names", () => {
  test("the exact probability sums over the names and agrees with samples", async () => {
    const samples = 512;
    const exact = await answerProbabilities(asked, 1);
    const counts = await countCorrect(asked, { samples, temperature: 1, seed: 1, step: 0 });
    for (const [i, p] of exact.entries()) {
      const error = Math.sqrt((p * (1 - p)) / samples);
      assert.ok(Math.abs(counts[i]! / samples - p) < 4.5 * error + 1e-9, `${counts[i]} and ${p}`);
    }
    const mean = exact.reduce((a, b) => a + b, 0) / exact.length;
    assert.ok(Math.abs(mean - 12 / 17) < 0.08, `${mean}`);
    // With the gold name alone it would be a quarter of that.
    const gold = questions.map((q) => ({
      ...q,
      answers: [q.answers[q.accepted.indexOf(q.gold)]!],
    }));
    const alone = await answerProbabilities({ ...asked, questions: gold }, 1);
    for (const [i, p] of alone.entries()) assert.ok(p < 0.6 * exact[i]!, `${p} of ${exact[i]}`);
  });

  test("the bin of 65 and more of 128 holds questions that greedy fails, and a vote too", async () => {
    const options = { samples: 128, temperature: 1, seed: 1, step: 1 };
    const counts = await countCorrect(asked, options);
    const greedy = await greedyAnswers(asked);
    const top = accessibilityBins(128).at(-1)!;
    assert.equal(top.label, "≥65");
    const failed = counts.filter((count, i) => count >= top.low && !greedy[i]!.correct);
    assert.ok(failed.length > questions.length / 3, `${failed.length} of ${questions.length}`);
    const curve = voteCurve(await sampledBallots(asked, options), { budgets: [1, 128] });
    const mean = counts.reduce((a, b) => a + b, 0) / counts.length / 128;
    // An unfinished "… ." is judged right by its text, but casts no vote.
    assert.ok(Math.abs(curve[0]!.value - mean) < 0.01, `${curve[0]!.value} and ${mean}`);
    assert.ok(curve[1]!.value < curve[0]!.value, JSON.stringify(curve));
  });

  test("exact reward pays the gold name alone, alias reward every name", async () => {
    const options = { groupSize: 64, temperature: 1, maxNewTokens: 4, seed: 2, step: 0 };
    const roll = (reward: "exact" | "alias") =>
      rollOut(localSampler(model), world, questions, rewardOf({ ...config, reward }), options);
    const [exact, alias] = [await roll("exact"), await roll("alias")];
    const paid = (rollouts: typeof exact) => rollouts.filter((r) => r.judgement.correct).length;
    for (const [i, { text, judgement, question }] of exact.entries()) {
      assert.equal(judgement.correct, text === question.gold);
      assert.equal(alias[i]!.text, text);
      assert.equal(alias[i]!.judgement.correct, question.accepted.includes(text));
    }
    const share = paid(exact) / paid(alias);
    assert.ok(Math.abs(share - 1 / 4) < 0.08, `${share} of right answers are the gold name`);
  });

  test("which name is gold cannot be told from the fact's other names or its relation", () => {
    const places = questions.map((q) => q.accepted.indexOf(q.gold));
    assert.ok(new Set(places).size > 2);
    for (const q of questions) {
      assert.equal(q.accepted.length, 4);
      assert.ok(q.answers.every((answer) => answer.length === 3));
      assert.ok(q.accepted.every((name) => aliasJudge(q, name).correct));
      assert.equal(q.accepted.filter((name) => exactJudge(q, name).correct).length, 1);
    }
  });

  test("an answer without room for its <eos> is refused", () => {
    const short = { ...config, train: { ...config.train, maxNewTokens: 3 } };
    assert.match(contradictions(short).join(), /cuts off every answer of world.answerTokens 3/);
  });
});
