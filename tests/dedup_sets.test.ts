/** De-duplication of whole sets: precision and recall on leaks that are known, and the command. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { readQuestionFile } from "../eval/datasets/read.ts";
import { deduplicate, precisionRecall } from "../eval/dedup/deduplicate.ts";
import { joinedEmbedder, lexicalEmbedder } from "../eval/dedup/embed.ts";
import { type Level, type QaRecord, recordOf, ruleJudge } from "../eval/dedup/pair_judge.ts";
import { readWordVectors, sifEmbedder } from "../eval/dedup/word_vectors.ts";
import { main } from "../eval/dedup.ts";
import type { Question } from "../eval/worlds/world.ts";
import { leakySets, withoutEntity } from "../experiments/dedup_leaks.ts";
import { type StoredTensor, writeSafetensors } from "../model/safetensors.ts";
import { printedBy } from "./support/printed.ts";
import { assetFolder } from "./tiny_model.ts";
import { build } from "./world_helpers.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-dedup-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Removes from `records` what `against` shares, by the rules and (if given) word vectors. */
async function removedIds(
  records: QaRecord[],
  against: QaRecord[],
  level: Level,
  vectors?: string,
) {
  const all = [...records, ...against];
  const corpus = all.map(({ text }) => text);
  const lexical = lexicalEmbedder(corpus);
  const embedder =
    vectors === undefined
      ? lexical
      : joinedEmbedder([lexical, sifEmbedder(readWordVectors(vectors), corpus)]);
  const result = await deduplicate(records, against, { embedder, judge: ruleJudge(all), level });
  return new Set(result.removed.map(({ removed }) => removed));
}

describe("a world of facts", () => {
  const world = build({ entities: 150, relations: 3 });
  /** Questions in other words than the world's own. */
  const rewordings: Record<string, readonly string[]> = {
    birthplace: ["what is the birthplace of {e} ?", "in which town was {e} born ?"],
    employer: ["who is the employer of {e} ?", "for which firm does {e} work ?"],
    instrument: ["which instrument does {e} play ?", "what is {e} playing on stage ?"],
  };
  const named = (question: Question) => world.entities[question.entity]!.name;
  const record = (question: Question, text: string, id: string, entity: boolean): QaRecord => ({
    ...{ id, text, answers: question.accepted },
    ...(entity ? { entity: named(question) } : {}),
  });
  const own = ({ promptText }: Question) => promptText.replace(/^.*Q :|A :.*$/g, "").trim();
  const reworded = (question: Question, i: number) =>
    rewordings[question.relationName]![i % 2]!.replace("{e}", named(question));
  const [train, heldOut] = [world.questions("train"), world.questions("test")];

  test("its splits share no entity, and nothing is removed, in whatever words they are asked", async () => {
    for (const wording of [own, reworded]) {
      const a = heldOut.map((question) => record(question, own(question), `${question.id}`, true));
      const b = train.map((question, i) =>
        record(question, wording(question, i), `${question.id}`, true),
      );
      for (const level of ["question", "fact", "entity"] as const) {
        assert.equal((await removedIds(a, b, level)).size, 0);
      }
    }
  });

  test("facts that leak re-worded are found, and no others; without the entity's field nearly so", async () => {
    const leaks = heldOut.filter((_, i) => i % 3 === 0);
    const leaked = new Set(leaks.map(({ id }) => `${id}`));
    const entities = new Set(leaks.map(({ entity }) => entity));
    const touched = heldOut.filter(({ entity }) => entities.has(entity)).map(({ id }) => `${id}`);
    const sets = (entity: boolean) =>
      [
        heldOut.map((question) => record(question, own(question), `${question.id}`, entity)),
        [...train, ...leaks].map((question, i) =>
          record(question, reworded(question, i), `t${i}`, entity),
        ),
      ] as const;
    const [a, b] = sets(true);
    assert.deepEqual(await removedIds(a, b, "fact"), leaked);
    assert.deepEqual(await removedIds(a, b, "entity"), new Set(touched));
    const [x, y] = sets(false);
    // Given on one side only, an entity is looked for in the other side's words.
    assert.deepEqual(await removedIds(a, y, "entity"), new Set(touched));
    assert.deepEqual(await removedIds(x, b, "entity"), new Set(touched));
    const { precision, recall } = precisionRecall(await removedIds(x, y, "fact"), leaked);
    assert.ok(precision.rate! >= 0.9, `precision ${precision.rate}`);
    assert.ok(recall.rate! >= 0.9, `recall ${recall.rate}`);
  });
});

describe("the command", () => {
  const write = (name: string, ...lines: readonly unknown[]) => {
    const path = join(folder, name);
    const text = lines
      .map((line) => `${typeof line === "string" ? line : JSON.stringify(line)}\n`)
      .join("");
    writeFileSync(path, name.endsWith(".gz") ? gzipSync(text) : text);
    return path;
  };
  const train = write(
    "train.jsonl.gz",
    { question: "Who wrote Emma?", answer: "Jane Austen" },
    { question: "When was Emma written?", answer: ["1815"] },
  );
  const heldOut = write(
    "test.jsonl",
    { id: "x", text: "who is the writer of Emma", answers: ["jane austen"], entity: "Emma" },
    "",
    {
      id: 7,
      question: "Who wrote Hamlet?",
      possible_answers: ["Shakespeare"],
      subj: "Hamlet",
      note: "kept as it is",
    },
  );

  /** Runs it in this process; what it printed on either stream. */
  async function command(...args: readonly string[]) {
    const { code, lines } = await printedBy(() => main(args));
    return { code, text: lines.join("\n") };
  }

  test("writes the kept lines as they were, and a proof of every removed pair", async () => {
    const [out, proof] = [join(folder, "kept.jsonl"), join(folder, "proof.jsonl")];
    const sets = ["--train", train, "--test", heldOut];
    const found = await command(...sets, "--level", "fact", "--out", out, "--proof", proof);
    assert.equal(found.code, 0, found.text);
    assert.match(found.text, /test: 2 questions against 2\n.*\n1 pairs removed 1 questions/);
    const line = readFileSync(heldOut, "utf8").split("\n")[2];
    assert.equal(readFileSync(out, "utf8"), `${line}\n`);
    const [pair, ...rest] = readFileSync(proof, "utf8")
      .trim()
      .split("\n")
      .map((row) => JSON.parse(row));
    assert.equal(rest.length, 0);
    assert.deepEqual([pair.removed, pair.because, pair.level], ["x", "#1", "fact"]);
    assert.match(pair.reason, /about "emma", answered "jane austen"/);
    assert.ok(pair.similarity > 0.3 && pair.becauseText === "Who wrote Emma?");

    const other = await command(...sets, "--remove", "train", "--level", "entity", "--out", out);
    assert.match(other.text, /train: 2 questions against 2\n[\s\S]*\n0 kept/);
    assert.equal(readFileSync(out, "utf8"), "");
  });

  test("takes sets of any format; a row that is no question is told, and left out", async () => {
    const other = write("pop.tsv", "id\tsubj\tquestion\tpossible_answers\ts_pop");
    writeFileSync(
      other,
      `${readFileSync(other, "utf8")}7\tEmma\tWho wrote Emma?\t["Jane Austen"]\t9\n` +
        `8\tPersuasion\tWho wrote Persuasion?\t["Jane Austen"]\t9\n9\tsix\n`,
    );
    const out = join(folder, "kept.jsonl");
    const found = await command("--train", train, "--test", other, "--out", out);
    assert.equal(found.code, 0, found.text);
    assert.match(found.text, /pop.tsv: left out, because no questions: 1 of its rows\n/);
    assert.match(
      found.text,
      /\n {2}line 4 has 2 fields where 5 columns are named\ntest: 2 questions/,
    );
    const kept = await readQuestionFile(out, { strict: true });
    assert.deepEqual(
      kept.questions.map(({ id, entity, popularity }) => [id, entity, popularity]),
      [["8", "Persuasion", 9]],
    );
    const strict = await command("--train", train, "--test", other, "--strict");
    assert.match(strict.text, /pop.tsv line 4 has 2 fields where 5 columns are named/);
  });

  test("names file and line of what it can't read, and says what a flag takes", async () => {
    const twice = [{ id: 1, text: "a", answer: "b" }, "", { id: "1", text: "c", answer: "d" }];
    for (const [lines, flags, message] of [
      [["{", "3"], ["--strict"], /bad.jsonl line 1 is not JSON/],
      [["{", "3"], [], /bad.jsonl holds no questions; line 1 is not JSON/],
      [[], [], /bad.jsonl holds no questions$/],
      [twice, ["--strict"], /bad.jsonl line 3 has the id "1", which is that of line 1/],
      [twice, ["--format", "popqa"], /holds no questions; line 1 has no "question"/],
    ] as const) {
      const bad = write("bad.jsonl", ...lines);
      const found = await command("--train", bad, "--test", heldOut, ...flags);
      assert.equal(found.code, 2);
      assert.match(found.text, message);
    }
    const missing = join(folder, "none.jsonl");
    for (const [args, message] of [
      [["--train", missing, "--test", heldOut], /cannot read .*none.jsonl: there is no such file/],
      [["--train", train], /required option '--test <file>'/],
      [
        ["--train", train, "--test", heldOut, "--level", "topic"],
        /Allowed choices are question, fact, entity/,
      ],
      [["--train", train, "--test", heldOut, "--threshold", "2"], /a cosine from -1 to 1/],
      [
        ["--train", train, "--test", heldOut, "--encoder", "Xenova/all-MiniLM-L6-v2"],
        /npm install @huggingface\/transformers/,
      ],
      [
        ["--train", train, "--test", heldOut, "--vectors", folder],
        /cannot read .*vectors.safetensors/,
      ],
      [["--train", train, "--test", heldOut, "--treshold", "0"], /Did you mean --threshold/],
    ] as const) {
      const found = await command(...args);
      assert.equal(found.code, 2, found.text);
      assert.match(found.text, message);
    }
  });

  test("reads word vectors, and says where their files disagree", () => {
    const path = join(folder, "vectors.safetensors");
    const embeddings: StoredTensor = { shape: [2, 3], values: Int32Array.of(1, 2, 3, 4, 5, 6) };
    writeSafetensors(
      path,
      new Map<string, StoredTensor>([
        ["embeddings", embeddings],
        ["scales", { shape: [2], values: Float32Array.of(2, 10) }],
      ]),
    );
    writeFileSync(join(folder, "words.txt.gz"), gzipSync("one\ntwo\n"));
    const { width, rows, values } = readWordVectors(folder);
    assert.deepEqual([width, rows.get("two"), ...values], [3, 1, 2, 4, 6, 40, 50, 60]);
    writeFileSync(join(folder, "words.txt"), "one\n");
    assert.throws(() => readWordVectors(folder), /1 words, 2 vectors, 2 scales/);
    writeSafetensors(path, new Map());
    assert.throws(() => readWordVectors(folder), /no tensor "embeddings"/);
    assert.ok(existsSync(path));
  });
});

const real = assetFolder("data/entity_questions", 1);
if (real !== undefined) {
  test("EntityQuestions: test questions that leak re-worded into train are found", async () => {
    const {
      test: asked,
      train,
      shared,
    } = await leakySets(real, { test: 600, train: 1000, leaks: 150 });
    const removed = await removedIds(withoutEntity(asked), withoutEntity(train), "fact");
    const { precision, recall } = precisionRecall(removed, shared.fact);
    assert.ok(shared.fact.size >= 150 && shared.fact.size < 165, `${shared.fact.size}`);
    assert.ok(precision.rate! >= 0.93, `precision ${precision.rate}`);
    assert.ok(recall.rate! >= 0.97, `recall ${recall.rate}`);
  });
}

const nq = assetFolder("data/nq_open", 2);
const vectors = nq === undefined ? undefined : assetFolder("data/word_vectors_100d", 1);
if (nq !== undefined && vectors !== undefined) {
  test("word vectors: a paraphrase is nearer than another entity, that than an unrelated question", async () => {
    const asked = [
      "What is the capital of Armenia?",
      "Which city is the capital of Armenia?",
      "What is the capital of Georgia?",
      "Who directed the film Casablanca?",
      "Who was the director of Casablanca?",
      "Where was the painter Rembrandt born?",
      "What is the birthplace of Rembrandt?",
      "How many legs does a spider have?",
    ];
    const { questions } = await readQuestionFile(join(nq, "NQ-open.dev.jsonl.gz"));
    const corpus = questions.map(({ question }) => question);
    const { width, embed } = sifEmbedder(readWordVectors(vectors), [...corpus, ...asked]);
    const rows = await embed(asked);
    const cosine = (i: number, j: number) => {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += rows[i * width + k]! * rows[j * width + k]!;
      return sum;
    };
    assert.ok(cosine(0, 1) > cosine(0, 2) && cosine(0, 2) > cosine(0, 7));
    for (const [a, b] of [
      [0, 1],
      [3, 4],
      [5, 6],
    ] as const) {
      assert.ok(cosine(a, b) > 0.6, `${asked[a]}: ${cosine(a, b)}`);
      assert.ok(cosine(a, 7) < 0.3, `${asked[a]}: ${cosine(a, 7)}`);
    }
  });
}

if (nq !== undefined) {
  test("NQ-open: its development set shares questions with EfficientQA's, and the proof shows them", async () => {
    const read = async (name: string) =>
      (await readQuestionFile(join(nq, name))).questions.map(recordOf);
    const dev = await read("NQ-open.dev.jsonl.gz");
    const other = await read("NQ-open.efficientqa.dev.1.1.jsonl.gz");
    assert.deepEqual([dev.length, other.length], [3610, 1800]);
    const sample = dev.filter(({ text }) => /flash|harry potter|real madrid|nba/.test(text));
    const removed = await removedIds(sample, other, "question");
    const texts = sample.filter(({ id }) => removed.has(id)).map(({ text }) => text);
    assert.ok(texts.includes("when is season 4 of flash coming out"), texts.join("; "));
    assert.ok(texts.length < sample.length / 4, `${texts.length} of ${sample.length}`);
  });
}
