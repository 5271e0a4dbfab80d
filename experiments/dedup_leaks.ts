/** Question: what does de-duplication find of known leaks in EntityQuestions? Answer: LOG.md. */
// bun run experiments/dedup_leaks.ts FOLDER, with the data set's train.jsonl.gz and test.jsonl.gz:
// 2,000 test questions against 4,000 training questions and 400 of the test's in other words.

import { join } from "node:path";
import { readQuestionFile } from "../eval/datasets/read.ts";
import { deduplicate, precisionRecall } from "../eval/dedup/deduplicate.ts";
import { type Embedder, joinedEmbedder, lexicalEmbedder } from "../eval/dedup/embed.ts";
import { type QaRecord, ruleJudge } from "../eval/dedup/pair_judge.ts";
import { readWordVectors, sifEmbedder } from "../eval/dedup/word_vectors.ts";
import { randomStream } from "../tensor/random.ts";

/** Relations: a question as the data set words it, and in other words. */
const relations: readonly (readonly [asked: RegExp, reworded: readonly string[]])[] = [
  [
    /^Which country is (.*) located in\?$/,
    ["What country is home to [X]?", "[X] is in which country?"],
  ],
  [/^Where was (.*) born\?$/, ["What is the birthplace of [X]?", "In which place was [X] born?"]],
  [/^Where did (.*) die\?$/, ["What was [X]'s place of death?", "In which city did [X] die?"]],
  [/^Who is (.*) married to\?$/, ["What is the name of [X]'s spouse?", "Whom did [X] marry?"]],
  [
    /^What is the capital of (.*)\?$/,
    ["Which city is the capital of [X]?", "[X] has which capital city?"],
  ],
  [/^Who is the author of (.*)\?$/, ["Who wrote [X]?", "[X] was written by which author?"]],
  [
    /^Where was (.*) educated\?$/,
    ["Which school did [X] attend?", "At which institution was [X] educated?"],
  ],
  [/^Who founded (.*)\?$/, ["Who was the founder of [X]?", "By whom was [X] founded?"]],
  [/^Who owns (.*)\?$/, ["Who is the owner of [X]?", "[X] is owned by whom?"]],
  [
    /^What type of music does (.*) play\?$/,
    ["Which genre of music does [X] play?", "What kind of music is played by [X]?"],
  ],
  [
    /^Where is the headquarter of (.*)\?$/,
    ["Where is [X] headquartered?", "In which city is [X] based?"],
  ],
  [/^Who was (.*) created by\?$/, ["Who is the creator of [X]?", "[X] was made by whom?"]],
  [/^Who performed (.*)\?$/, ["Which artist performed [X]?", "Who sang [X]?"]],
  [
    /^Which language was (.*) written in\?$/,
    ["What is the language of [X]?", "In which language was [X] published?"],
  ],
];

interface Asked extends QaRecord {
  readonly entity: string;
  readonly fact: string;
}

export interface LeakySets {
  readonly test: readonly Asked[];
  readonly train: readonly Asked[];
  /** Ids of test questions whose fact, and whose entity, is asked about in training. */
  readonly shared: { readonly fact: ReadonlySet<string>; readonly entity: ReadonlySet<string> };
}

/** Draws both sets from the data set's folder; the first `leaks` of the test leak in other words. */
export async function leakySets(
  folder: string,
  sizes: { readonly test: number; readonly train: number; readonly leaks: number },
): Promise<LeakySets> {
  const stream = randomStream({ seed: 1, purpose: "leaks" });
  const draw = async (split: "test" | "train", count: number): Promise<Asked[]> => {
    const { questions } = await readQuestionFile(join(folder, `${split}.jsonl.gz`));
    const known = questions.flatMap(({ id, question: text, answers }) => {
      const relation = relations.findIndex(([asked]) => asked.test(text));
      const entity = relations[relation]?.[0].exec(text)?.[1];
      if (entity === undefined) return [];
      return [{ id: `${split} ${id}`, text, answers, entity, fact: `${relation} ${entity}` }];
    });
    return stream.shuffle(known).slice(0, count);
  };
  const test = await draw("test", sizes.test);
  const leaks = test.slice(0, sizes.leaks).map((asked) => {
    const wording = stream.choice(relations[Number.parseInt(asked.fact, 10)]![1]);
    return { ...asked, id: `leak ${asked.id}`, text: wording.replace("[X]", () => asked.entity) };
  });
  const train = [...(await draw("train", sizes.train)), ...leaks];
  const both = (of: (asked: Asked) => string) => {
    const there = new Set(train.map(of));
    return new Set(test.filter((asked) => there.has(of(asked))).map(({ id }) => id));
  };
  return {
    test,
    train,
    shared: { fact: both(({ fact }) => fact), entity: both(({ entity }) => entity) },
  };
}

/** Without the entity, which the data set names nowhere but in the question. */
export const withoutEntity = (records: readonly Asked[]): QaRecord[] =>
  records.map(({ id, text, answers }) => ({ id, text, answers }));

async function main(folder: string, vectors = join(folder, "../word_vectors_100d")): Promise<void> {
  const { test, train, shared } = await leakySets(folder, { test: 2000, train: 4000, leaks: 400 });
  const corpus = [...test, ...train].map(({ text }) => text);
  const lexical = lexicalEmbedder(corpus);
  const joined = joinedEmbedder([lexical, sifEmbedder(readWordVectors(vectors), corpus)]);
  const percent = (share: number | null) => `${(100 * (share ?? Number.NaN)).toFixed(1)} %`;
  const row = async (embedder: Embedder, named: boolean, level: "fact" | "entity") => {
    const [records, against] = [test, train].map((some) => (named ? some : withoutEntity(some)));
    const judge = ruleJudge([...records!, ...against!]);
    const result = await deduplicate(records!, against!, { embedder, judge, level });
    const removed = new Set(result.removed.map((pair) => pair.removed));
    const { precision, recall } = precisionRecall(removed, shared[level]);
    console.log(
      `${embedder.name}, entities ${named ? "named" : "not named"}, level ${level}: ` +
        `${result.counts.candidates} pairs judged, ${removed.size} questions removed, ` +
        `precision ${percent(precision.rate)}, recall ${percent(recall.rate)} of ${recall.trials}`,
    );
  };
  for (const embedder of [lexical, joined]) {
    for (const named of [false, true]) {
      for (const level of ["fact", "entity"] as const) await row(embedder, named, level);
    }
  }
}

if (import.meta.main)
  await main(process.argv[2] ?? "../shared/data/entity_questions", process.argv[3]);
