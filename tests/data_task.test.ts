/** Question files as tasks: prompts, given answers, what an answer says, splits, what is left out. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type DataTaskOptions, dataTask, entityGroups } from "../eval/data_task.ts";
import type { DataQuestion } from "../eval/datasets/question.ts";
import { containsJudge } from "../eval/judge/contains.ts";
import { normaliseAnswer } from "../eval/judge/normalised.ts";
import { promptText, readAnswer } from "../eval/prompt.ts";
import { promptTokens } from "../eval/prompt_tokens.ts";
import { wordTokenizer } from "../model/tokenizer.ts";
import { words } from "./support/word_model.ts";
import { tinyConfig } from "./tiny_model.ts";

const tokenizer = wordTokenizer(words, { special: ["<pad>", "<bos>", "<eos>"] });
const config = tinyConfig({ vocab_size: words.length, eos_token_id: 2 });
const prompts = promptTokens({ form: "raw" }, config, tokenizer);
const options: DataTaskOptions = {
  ...{ config, prompts, maxNewTokens: 4, seed: 1, testShare: 0.3, validationShare: 0.2 },
};
const question = (text: string, answer = "here", more: Partial<DataQuestion> = {}) => ({
  ...{ id: text, question: text, answers: [answer], ...more },
});

/** Some of 24 names, asked about in up to two ways; one in three has no entity. */
const questions = fc
  .uniqueArray(fc.tuple(fc.nat(23), fc.boolean(), fc.nat(2)), {
    minLength: 12,
    selector: ([name, way]) => `${name} ${way}`,
  })
  .map((picks) =>
    picks.map(([name, way, known]) => {
      const text = way ? `Where is person${name} ?` : `is person${name} there ?`;
      return question(text, "here", known === 0 ? {} : { entity: `Person${name}` });
    }),
  );

const splits = ["train", "validation", "test"] as const;

describe("splits", () => {
  test("share no entity and no text, hold every question once, and depend on the seed alone", () => {
    fc.assert(
      fc.property(questions, fc.nat(99), (all, seed) => {
        const task = dataTask(all, { ...options, seed });
        const seen = new Map<string, string>();
        let total = 0;
        for (const split of splits) {
          for (const { promptText: text, split: own } of task.questions(split)) {
            const { entity } = all.find(({ question: asked }) => asked === text)!;
            total++;
            assert.equal(own, split);
            for (const key of [normaliseAnswer(text), entity ?? `no entity: ${text}`]) {
              assert.equal(seen.get(key) ?? split, split, key);
              seen.set(key, split);
            }
          }
        }
        assert.equal(total, all.length);
        const texts = (t: typeof task) =>
          splits.map((s) => t.questions(s).map((q) => q.promptText));
        assert.deepEqual(texts(dataTask(all, { ...options, seed })), texts(task));
      }),
      { seed: 2, numRuns: 50 },
    );
  });

  test("keep an entity together of whose name normalising leaves nothing", () => {
    for (const name of ["The The", "!!!"]) {
      const all = ["Where is it ?", "is it there ?"].map((text) => {
        return question(text, "here", { entity: name });
      });
      const other = question("is it here ?", "here", { entity: name === "!!!" ? "???" : "A" });
      assert.deepEqual([...entityGroups([...all, other]).values()], [0, 0, 1]);
    }
    const texts = [question("??"), question("!!"), question(" !! ")];
    assert.deepEqual([...entityGroups(texts).values()], [0, 1, 1]);
  });

  test("have the shares that are asked for", () => {
    const all = Array.from({ length: 20 }, (_, i) => question(`is person${i} here ?`));
    const task = dataTask(all, options);
    assert.deepEqual(
      splits.map((split) => task.questions(split).length),
      [11, 3, 6],
    );
    const few = dataTask(all, { ...options, testQuestions: 2 });
    assert.equal(few.questions("test").length, 2);
    assert.equal(few.questions("train").length, 11);
  });

  test("with a test file of its own, training loses what it shares with it", () => {
    const own = Array.from({ length: 10 }, (_, i) =>
      question(`is person${i} here ?`, "here", { entity: `P. ${i}` }),
    );
    const held = [
      question("Where is person3 ?", "away", { entity: "p 3" }),
      question("Is person5 here ?", "away"),
    ];
    const task = dataTask(own, { ...options, prompts: loose, test: held });
    assert.deepEqual(
      task.questions("test").map(({ promptText: text }) => text),
      held.map((q) => q.question),
    );
    const rest = [...task.questions("train"), ...task.questions("validation")];
    assert.equal(rest.length, 8);
    assert.ok(rest.every(({ promptText: text }) => !/person[35]/.test(text)));
    assert.deepEqual(task.leftOut, [
      "2 training questions share an entity or a text with the held-out ones",
    ]);
  });

  test("that would be empty are refused", () => {
    const one = [question("is person1 here ?")];
    assert.throws(() => dataTask(one, options), /no (train|validation|test) question is left of 1/);
  });
});

/** The same, deaf to capitals. */
const loose = {
  ...prompts,
  prompt: (text: string) => prompts.prompt(text.replace("Is", "is")),
};

describe("a question's tokens", () => {
  test("are the prompt's; a given answer's follow, and its stop token is the first", () => {
    const [q] = dataTask(
      [1, 2, 3, 4, 5, 6, 7].map((i) => question(`Where is person${i} ?`)),
      {
        ...options,
        testShare: 0.2,
      },
    ).questions("train");
    const name = Number(q!.promptText.match(/\d+/)![0]);
    assert.deepEqual(q!.prompt, [3, 4, words.indexOf(`person${name}`), 5]);
    assert.deepEqual(q!.answers, [[words.indexOf("here")]]);
    assert.deepEqual(prompts.stopTokens, [2]);
    assert.equal(prompts.answerText([...q!.answers[0]!, 2]), "here");
  });

  test("beyond the model's positions or its vocabulary are told", () => {
    const long = `is ${"person1 ".repeat(70)}?`;
    const all = Array.from({ length: 8 }, (_, i) => question(`is person${i} here ?`));
    const task = dataTask([...all, question(long)], options);
    assert.match(task.leftOut[0]!, /^1 questions: prompts of up to 72 tokens, with 4 new ones,/);
    assert.throws(() => dataTask([question(long)], options), /no question is left: prompts of/);
    const small = promptTokens({ form: "raw" }, tinyConfig({ vocab_size: 9 }), tokenizer);
    assert.throws(() => small.prompt("is person3 here ?"), /vocab_size 9: do they belong/);
  });

  test("need a stop token, and a template where chat is asked for", () => {
    const endless = promptTokens({ form: "raw" }, tinyConfig({ vocab_size: 99 }), tokenizer);
    assert.throws(
      () => dataTask([question("is here ?")], { ...options, prompts: endless }),
      /names a token that ends a text/,
    );
    assert.throws(
      () => promptTokens({ form: "chat" }, config, tokenizer),
      /has no chat template .*use prompts of the form qa or raw/,
    );
    assert.throws(() => promptTokens({ form: "qa", text: "Q" }, config, tokenizer), /\{question\}/);
    assert.throws(() => promptTokens({ form: "qa", system: "Be" }, config, tokenizer), /form chat/);
  });
});

describe("what is asked and answered", () => {
  test("a question's own letters stand in the prompt, even those of a pattern", () => {
    assert.equal(promptText({ form: "qa" }, "what is $& or $1?"), "Q: what is $& or $1?\nA:");
    assert.equal(promptText({ form: "raw", text: "<{question}>" }, "x"), "<x>");
    assert.match(promptText({ form: "chat", think: true }, "who?"), /"Answer:"[\s\S]*who\?$/);
  });

  test("an answer ends at the line, and follows a thought", () => {
    assert.equal(readAnswer({ form: "qa" }, " Rome\nQ: and"), "Rome");
    assert.equal(readAnswer({ form: "raw" }, " Rome\nand"), "Rome\nand");
    assert.equal(readAnswer({ form: "chat" }, "<think>\nParis\n</think>\n\nRome"), "Rome");
    const think = { form: "chat", think: true } as const;
    assert.equal(readAnswer(think, "In Italy.\nAnswer: no\nAnswer: Rome \nthat is all"), "Rome");
    assert.equal(readAnswer(think, "In Italy."), "");
  });

  test("contains: whole words, any case, any accepted text", () => {
    const asked = { id: 1, gold: "St. Ives", accepted: ["St. Ives", "Côte"] };
    const right = (answer: string) => containsJudge(asked, answer).correct;
    assert.ok(right("from st ives, by train") && right("la côte!") && right("Côte"));
    assert.ok(!right("st. ivesham") && !right("best ives") && !right("") && !right("Cote"));
    assert.ok(!containsJudge({ id: 1, gold: "?", accepted: ["?"] }, "?").correct);
  });
});
