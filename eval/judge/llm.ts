/** A language model as the judge: CORRECT, INCORRECT or NOT_ATTEMPTED, each verdict asked for once. */

import { mapLimited } from "../engines/limits.ts";
import { type Chat, type Message, openChat } from "../engines/openai.ts";
import { CallFailure, Retries } from "../engines/retry.ts";
import { servedModel } from "../engines/served_model.ts";
import type { ServerOptions } from "../engines/server.ts";
import { VerdictCache, verdictKey } from "./cache.ts";
import type { Judge, Judgement } from "./judge.ts";
import { type Grade, type JudgeItem, judgePrompt, readVerdict, verdictSchema } from "./prompt.ts";

/** A judgement with its grade; null where no verdict came. */
export interface GradedJudgement extends Judgement {
  readonly grade: Grade | null;
}

/** A judge that takes its time: verdicts on a batch, in its order. */
export type AsyncJudge = (items: readonly JudgeItem[]) => Promise<readonly GradedJudgement[]>;

/** A model's reply to a prompt; `cut` where it ended at the longest reply. */
export type Ask = (messages: readonly Message[]) => Promise<{ text: string; cut: boolean }>;

export interface LlmJudgeOptions {
  /** Name of the judging model: a part of the cache's keys. */
  readonly model: string;
  /** How it is asked: `serverAsk`, or any model at hand. None: only the cache is read. */
  readonly ask?: Ask | undefined;
  readonly cache?: VerdictCache | undefined;
  /** Prompts in work at a time; default 16. */
  readonly concurrency?: number;
}

/** What a judge has done so far. */
export interface JudgeCounts {
  /** Verdicts by the model, those found in the cache, and items without a verdict. */
  asked: number;
  cached: number;
  unusable: number;
  /** Of the items without a verdict: those that were not in the cache, with nobody to ask. */
  missing: number;
}

export interface LlmJudge {
  readonly judge: AsyncJudge;
  readonly counts: JudgeCounts;
}

/**
 * A judge that asks a model, whatever stands behind `ask`. Equal items of a batch are asked once; a
 * verdict is stored as soon as it is there, so that what ends the batch loses none. A reply without
 * a verdict is score null with its reason, and is not stored.
 */
export function llmJudge({ model, ask, cache, concurrency = 16 }: LlmJudgeOptions): LlmJudge {
  const counts: JudgeCounts = { asked: 0, cached: 0, unusable: 0, missing: 0 };
  const keyOf = (item: JudgeItem) => verdictKey(model, judgePrompt(item));
  const one = async (item: JudgeItem, key: string): Promise<GradedJudgement> => {
    const known = cache?.get(key);
    if (known !== undefined) {
      counts.cached++;
      return judgementOf(item, known.grade, known.reason);
    }
    if (ask === undefined) {
      counts.missing++;
      counts.unusable++;
      return judgementOf(item, null, "the verdict is not in the cache, and no judge is asked");
    }
    const { text, cut } = await ask(judgePrompt(item));
    const { grade, reason } = readVerdict(text);
    if (grade === null) {
      counts.unusable++;
      return judgementOf(item, null, cut ? `${reason}; the reply was cut off` : reason);
    }
    counts.asked++;
    const { question, gold, answer } = item;
    cache?.set(key, { grade, reason }, { model, question, gold, answer });
    return judgementOf(item, grade, reason);
  };
  const judge: AsyncJudge = async (items) => {
    const keys = items.map(keyOf);
    const distinct = new Map(keys.map((key, i) => [key, items[i]!]));
    const found = await mapLimited([...distinct], concurrency, async ([key, item]) => {
      return [key, await one(item, key)] as const;
    });
    const byKey = new Map(found);
    return keys.map((key) => byKey.get(key)!);
  };
  return { judge, counts };
}

function judgementOf(
  { gold, answer }: JudgeItem,
  grade: Grade | null,
  reason: string,
): GradedJudgement {
  const why = reason === "" ? `against "${gold}"` : reason;
  const text = grade === null ? why : `${grade}: ${why}`;
  const score = grade === null ? null : Number(grade === "CORRECT");
  return { score, correct: grade === "CORRECT", predicted: answer.trim(), reason: text, grade };
}

/** A rule as an AsyncJudge: at once, and never without a verdict. */
export const ruleAsync =
  (judge: Judge): AsyncJudge =>
  async (items) =>
    items.map(({ gold, accepted, answer }, id) => {
      const judgement = judge({ id, gold, accepted }, answer);
      return { ...judgement, grade: judgement.correct ? "CORRECT" : "INCORRECT" };
    });

/** The key is by default the environment's OPENAI_API_KEY, the time-out 60 s, 16 calls at a time. */
export interface ServerJudgeOptions extends ServerOptions {
  /** None: the one that the server has. Offline it must be given, for verdicts are kept by it. */
  readonly model?: string | undefined;
  /** Longest reply, in tokens. */
  readonly maxTokens?: number;
  /** File of verdicts. */
  readonly cache?: string | undefined;
  /** Read the cache alone: what it lacks has no verdict. */
  readonly offline?: boolean;
}

export interface ServerJudge extends LlmJudge {
  /** Name of the judging model. */
  readonly model: string;
  readonly retries: Retries;
  readonly close: () => void;
}

/** How the commands name the judging model. */
const MODEL_FLAGS = "--judge.model (rl/train.ts) or --judge-model (eval/recall.ts)";

/** A judge behind a server. A UserError where it stays away for longer than the patience. */
export async function serverJudge(options: ServerJudgeOptions): Promise<ServerJudge> {
  const { url, key = process.env.OPENAI_API_KEY, concurrency, print } = options;
  const model = options.model ?? (await servedModel("the judge", MODEL_FLAGS, { ...options, key }));
  const cache = options.cache === undefined ? undefined : new VerdictCache(options.cache);
  if (cache !== undefined && cache.broken > 0) {
    print?.(`${cache.path}: ${cache.broken} lines can't be read and are passed over`);
  }
  const kept = cache && `verdicts so far are in ${cache.path}: the same command goes on from them`;
  const retries = new Retries({
    name: `the judge ${model} at ${url}`,
    ...{ patience: options.patience ?? {}, print },
    requestsPerMinute: options.requestsPerMinute,
    ...(options.clock && { clock: options.clock }),
    ...(kept && { kept }),
  });
  const server = { url, model, key, timeoutSeconds: options.timeoutSeconds ?? 60 };
  const ask = options.offline
    ? undefined
    : serverAsk(await openChat(server), retries, {
        maxTokens: options.maxTokens ?? 256,
        print,
      });
  const made = llmJudge({ model, ask, cache, ...(concurrency && { concurrency }) });
  return { ...made, model, retries, close: () => cache?.close() };
}

/**
 * How a server is asked: with a JSON schema, until it refuses one (HTTP 400, 404 or 422) and takes
 * the same prompt without; from then on without.
 */
export function serverAsk(
  chat: Chat,
  retries: Retries,
  options: {
    readonly maxTokens: number;
    readonly print?: ((text: string) => void) | undefined;
  },
): Ask {
  const { maxTokens, print } = options;
  let takesSchema = true;
  const call = (messages: readonly Message[], schema: boolean) =>
    retries.call((signal) => {
      const form = schema ? { schema: verdictSchema } : {};
      return chat({ messages, maxTokens, temperature: 0, ...form }, signal);
    });
  return async (messages) => {
    const tried = takesSchema;
    const replies = await call(messages, tried).catch(async (error: Error) => {
      if (!tried || !refusesSchema(error.cause)) throw error;
      const without = await call(messages, false).catch(() => {
        throw error;
      });
      if (takesSchema)
        print?.("the judge's server takes no JSON schema: verdicts are read as text");
      takesSchema = false;
      return without;
    });
    const { text, finished } = replies[0]!;
    return { text, cut: !finished };
  };
}

const refusesSchema = (cause: unknown): boolean =>
  cause instanceof CallFailure && [400, 404, 422].includes(cause.status ?? 0);
