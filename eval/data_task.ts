/** A file of questions as a task: prompts of a model at hand, splits that share no entity. */

import type { ModelConfig } from "../model/config.ts";
import { UserError } from "../model/errors.ts";
import { randomStream } from "../tensor/mod.ts";
import type { DataQuestion } from "./datasets/question.ts";
import { groupKeys } from "./datasets/split.ts";
import { plainText } from "./dedup/words.ts";
import type { PromptTokens } from "./prompt_tokens.ts";
import type { Task, TaskQuestion } from "./task.ts";
import type { Split } from "./worlds/world.ts";

export interface DataTask extends Task {
  questions(split: Split): readonly FileQuestion[];
  /** Questions that were left out, and why: one sentence each. */
  readonly leftOut: readonly string[];
}

export interface DataTaskOptions {
  readonly config: ModelConfig;
  readonly prompts: PromptTokens;
  readonly maxNewTokens: number;
  readonly seed: number;
  /** Share of the entities that are held out; not read where `test` is given. */
  readonly testShare: number;
  /** Share of the rest that weights are chosen by. */
  readonly validationShare: number;
  /** Held-out questions of their own. Training loses what it shares with them. */
  readonly test?: readonly DataQuestion[] | undefined;
  /** Most held-out questions, drawn at random. */
  readonly testQuestions?: number | null;
}

/** A question of a file, under the id that it has there. */
export interface FileQuestion extends TaskQuestion {
  readonly name: string;
}

/**
 * Splits entities (of a question without one: its own text) at random by `seed`; all questions about
 * an entity go together, and so do questions of equal text. Throws a UserError where the model names
 * no token that ends an answer, or where a split would be empty.
 */
export function dataTask(questions: readonly DataQuestion[], options: DataTaskOptions): DataTask {
  const { prompts, test, seed, testShare, validationShare, testQuestions } = options;
  if (prompts.stopTokens.length === 0) {
    throw new UserError(
      "neither the model's config.json nor its tokenizer names a token that ends a text " +
        "(eos_token_id, eos_token): answers would have no end",
    );
  }
  const leftOut: string[] = [];
  /** Each question's prompt, encoded once. */
  const encoded = new Map<DataQuestion, readonly number[]>();
  const own = fitting(questions, options, encoded, leftOut);
  const apart = test && fitting(test, options, encoded, leftOut);
  const groups = entityGroups([...own, ...(apart ?? [])]);
  const held = new Set(apart?.map((question) => groups.get(question)!));
  const free = own.filter((question) => !held.has(groups.get(question)!));
  if (apart && free.length < own.length) {
    const shared = own.length - free.length;
    leftOut.push(`${shared} training questions share an entity or a text with the held-out ones`);
  }
  const ids = [...new Set(free.map((question) => groups.get(question)!))];
  const order = randomStream({ seed, purpose: "data split" }).shuffle(ids);
  const tested = apart ? 0 : Math.round(order.length * testShare);
  const validated = Math.round((order.length - tested) * validationShare);
  const splitOf = new Map(
    order.map((id, i): [number, Split] => {
      return [id, i < tested ? "test" : i < tested + validated ? "validation" : "train"];
    }),
  );
  for (const id of held) splitOf.set(id, "test");
  const make = maker(prompts, encoded, groups, (entity) => splitOf.get(entity)!);
  const kept = [...free, ...(apart ?? [])];
  const all = kept.map(make);
  const bySplit = Map.groupBy(all, ({ split }) => split);
  const found = sampled(bySplit.get("test") ?? [], testQuestions ?? null, seed);
  if (found.length > 0) bySplit.set("test", found);
  requireSplits(bySplit, order.length + held.size);
  return {
    leftOut,
    unnamed: kept.filter(({ entity = "" }) => plainText(entity) === "").length,
    tokenizer: prompts.tokenizer,
    stopTokens: prompts.stopTokens,
    questions: (split: Split) => bySplit.get(split) ?? [],
    answerText: prompts.answerText,
  };
}

/** The questions whose prompt, put into `encoded`, leaves room for an answer. */
function fitting(
  questions: readonly DataQuestion[],
  { config, prompts, maxNewTokens }: DataTaskOptions,
  encoded: Map<DataQuestion, readonly number[]>,
  leftOut: string[],
): DataQuestion[] {
  const room = config.max_position_embeddings - maxNewTokens + 1;
  let longest = 0;
  const fits = questions.filter((question) => {
    const prompt = prompts.prompt(question.question);
    longest = Math.max(longest, prompt.length);
    if (prompt.length <= room) encoded.set(question, prompt);
    return encoded.has(question);
  });
  const dropped = questions.length - fits.length;
  if (dropped === 0) return fits;
  const why =
    `prompts of up to ${longest} tokens, with ${maxNewTokens} new ones, don't fit into the model's ` +
    `${config.max_position_embeddings} positions`;
  if (fits.length === 0) throw new UserError(`no question is left: ${why}`);
  leftOut.push(`${dropped} questions: ${why}`);
  return fits;
}

/** A number for each set of questions that are about one entity, or have one text (`groupKeys`). */
export function entityGroups(questions: readonly DataQuestion[]): Map<DataQuestion, number> {
  const keys = groupKeys(questions);
  const numbers = new Map([...new Set(keys)].map((key, number) => [key, number]));
  return new Map(questions.map((question, i) => [question, numbers.get(keys[i]!)!]));
}

function maker(
  prompts: PromptTokens,
  encoded: ReadonlyMap<DataQuestion, readonly number[]>,
  groups: ReadonlyMap<DataQuestion, number>,
  splitOf: (entity: number) => Split,
) {
  const relations = new Map<string, number>();
  return (data: DataQuestion, id: number): FileQuestion => {
    const { question, answers: accepted } = data;
    const relationName = data.relation ?? "";
    const relation = relations.get(relationName) ?? relations.size;
    relations.set(relationName, relation);
    const entity = groups.get(data)!;
    let ids: number[][] | undefined;
    return {
      ...{ id, name: data.id, entity, relation, relationName, split: splitOf(entity) },
      ...{ prompt: encoded.get(data)!, promptText: question },
      ...{ gold: accepted[0]!, accepted },
      // Sets with dozens of aliases a question would take minutes to encode, mostly for nothing.
      get answers() {
        ids ??= accepted.map((answer) => prompts.answer(question, answer));
        return ids;
      },
    };
  };
}

function sampled<T>(items: readonly T[], most: number | null, seed: number): T[] {
  if (most === null || items.length <= most) return [...items];
  const order = randomStream({ seed, purpose: "held-out questions" }).shuffle(items);
  const kept = new Set(order.slice(0, most));
  return items.filter((item) => kept.has(item));
}

function requireSplits(bySplit: ReadonlyMap<Split, readonly unknown[]>, entities: number): void {
  for (const split of ["train", "validation", "test"] as const) {
    if ((bySplit.get(split)?.length ?? 0) > 0) continue;
    throw new UserError(
      `no ${split} question is left of ${entities} entities: use more questions, or other shares ` +
        "(data.testShare, data.validationShare)",
    );
  }
}
