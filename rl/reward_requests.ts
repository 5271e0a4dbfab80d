/** What engines ask a reward server and how they want the answer: ours, verl's and OpenRLHF's form. */

import { z } from "zod";
import type { DataQuestion } from "../eval/datasets/question.ts";
import type { GradedJudgement } from "../eval/judge/llm.ts";
import type { JudgeItem } from "../eval/judge/prompt.ts";

/** A request that is wrong: the HTTP status that says how, and a sentence. */
export class RequestProblem extends Error {
  override readonly name = "RequestProblem";
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** A request as answers to be judged, and its reply once they are. */
export interface RewardRequest {
  readonly items: readonly JudgeItem[];
  readonly reply: (judgements: readonly GradedJudgement[]) => unknown;
}

export interface RequestOptions {
  /** Questions that a request may name by id. */
  readonly questions: ReadonlyMap<string, DataQuestion>;
  /** What an answer without a verdict is paid where an engine takes numbers only; undefined: an error. */
  readonly nullScore?: number | undefined;
  /** What of an engine's words is the answer; undefined: all of them, without white space around. */
  readonly read?: (words: string) => string;
}

const trimmed = (words: string): string => words.trim();

const text = z.string();
const id = z.union([text, z.number().transform(String)]);
const names = z.union([text.transform((one) => [one]), z.array(text)]);

const byId = z.object({ id, answer: text });
const byText = z.object({ question: text, gold: text, accepted: names.optional(), answer: text });
const verlItem = z.object({
  data_source: text.optional(),
  solution_str: text,
  ground_truth: names,
  extra_info: z
    .looseObject({ id: id.nullish(), question: text.nullish(), aliases: names.nullish() })
    .nullish(),
});
const openRlhf = z.object({
  query: z.array(text),
  prompts: z.array(text),
  labels: z.array(text),
});

/** Reads a request's body in whichever form it has. Throws a RequestProblem that names what is wrong. */
export function readRequest(body: unknown, options: RequestOptions): RewardRequest {
  if (typeof body !== "object" || body === null) {
    throw new RequestProblem(422, "the body is no object and no list");
  }
  if (Array.isArray(body)) return many(body, options);
  if ("answers" in body) return many(listIn(body, "answers"), options, "judgements");
  if ("items" in body) return many(listIn(body, "items"), options);
  if ("query" in body) return openRlhfRequest(body, options);
  const one = itemOf(body, "the body", options);
  return { items: [one], reply: ([judgement]) => scoreOf(judgement!) };
}

function listIn(body: object, key: string): unknown[] {
  const list = (body as Record<string, unknown>)[key];
  if (!Array.isArray(list)) throw new RequestProblem(422, `"${key}" is no list`);
  return list;
}

function many(list: readonly unknown[], options: RequestOptions, key = "scores"): RewardRequest {
  const items = list.map((one, i) => itemOf(one, `entry ${i}`, options));
  return { items, reply: (judgements) => ({ [key]: judgements.map(scoreOf) }) };
}

/** One answer with its question: by id, in our words, or in verl's. */
function itemOf(value: unknown, where: string, options: RequestOptions): JudgeItem {
  const { read = trimmed } = options;
  const has = (key: string) => typeof value === "object" && value !== null && key in value;
  if (has("solution_str")) {
    const { solution_str, ground_truth, extra_info } = parsed(verlItem, value, where);
    const known = extra_info?.id;
    if (known != null && options.questions.size > 0) {
      return named(known, solution_str, where, options);
    }
    return {
      question: extra_info?.question ?? "",
      gold: ground_truth[0] ?? "",
      accepted: [...ground_truth, ...(extra_info?.aliases ?? [])],
      answer: read(solution_str),
    };
  }
  if (has("id")) {
    const { id, answer } = parsed(byId, value, where);
    return named(id, answer, where, options);
  }
  const { question, gold, accepted = [], answer } = parsed(byText, value, where);
  return { question, gold, accepted: [gold, ...accepted], answer: read(answer) };
}

function named(
  id: string,
  answer: string,
  where: string,
  { questions, read = trimmed }: RequestOptions,
): JudgeItem {
  const found = questions.get(id);
  if (found === undefined) {
    const why = questions.size === 0 ? "the server was started without --data" : "no such question";
    throw new RequestProblem(422, `${where}: id "${id}": ${why}`);
  }
  const { question, answers } = found;
  return { question, gold: answers[0]!, accepted: answers, answer: read(answer) };
}

function parsed<T>(schema: z.ZodType<T>, value: unknown, where: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0]!;
  throw new RequestProblem(
    422,
    `${where}: ${path.length > 0 ? `"${path.join(".")}": ` : ""}${message}`,
  );
}

/**
 * OpenRLHF's remote reward: `query` is prompt and answer in one, `labels` the gold text or, as JSON,
 * {"id"} or {"question", "gold", "accepted"}. It takes numbers only.
 */
function openRlhfRequest(body: object, options: RequestOptions): RewardRequest {
  const { query, prompts, labels } = parsed(openRlhf, body, "the body");
  if (prompts.length !== query.length || labels.length !== query.length) {
    const sizes = `${query.length}, ${prompts.length}, ${labels.length}`;
    throw new RequestProblem(422, `query, prompts and labels have ${sizes} entries`);
  }
  const items = query.map((whole, i) => {
    const prompt = prompts[i]!;
    const answer = behind(prompt, whole);
    if (answer === undefined) {
      throw new RequestProblem(422, `entry ${i}: the query does not begin with its prompt`);
    }
    return itemOf({ ...labelOf(labels[i]!, prompt), answer }, `entry ${i}`, options);
  });
  return {
    items,
    reply(judgements) {
      const rewards = judgements.map(({ score, reason }, i) => {
        const value = score ?? options.nullScore;
        if (value !== undefined) return value;
        throw new RequestProblem(
          503,
          `entry ${i} has no verdict (${reason}), and OpenRLHF takes numbers only: ask again, or ` +
            "start the server with --null-score",
        );
      });
      return { rewards, scores: rewards, extra_logs: {} };
    },
  };
}

/**
 * What follows the prompt. It went through a tokenizer and back, which may move white space: where
 * the letters are the same, that is no other prompt.
 */
function behind(prompt: string, whole: string): string | undefined {
  if (whole.startsWith(prompt)) return whole.slice(prompt.length);
  const letters = prompt.replace(/\s+/g, "");
  let [at, seen] = [0, 0];
  for (; seen < letters.length; at++) {
    if (at === whole.length) return undefined;
    if (/\s/.test(whole[at]!)) continue;
    if (whole[at] !== letters[seen++]) return undefined;
  }
  return whole.slice(at);
}

function labelOf(label: string, prompt: string): object {
  try {
    const value: unknown = JSON.parse(label);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return { question: prompt, ...value };
    }
  } catch {
    // A gold text.
  }
  return { question: prompt, gold: label };
}

/** What verl reads: `acc` and `pred` switch on its accuracy and majority vote. null: no verdict. */
const scoreOf = ({ score, correct, predicted, reason }: GradedJudgement) => ({
  ...{ score, acc: score === null ? null : Number(correct), pred: predicted, reason },
});
