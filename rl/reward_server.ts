#!/usr/bin/env bun
/** The reward over HTTP, so that every engine pays what we pay: bun run rl/reward_server.ts. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";
import { readQuestionFile } from "../eval/datasets/read.ts";
import { type AsyncJudge, ruleAsync, serverJudge } from "../eval/judge/llm.ts";
import { rules } from "../eval/judge/rules.ts";
import { promptForms, readAnswer } from "../eval/prompt.ts";
import { rewards } from "./config.ts";
import { fieldsOf } from "./fields.ts";
import { codeOf } from "./files.ts";
import { helpFlag, helpText, parseFlags } from "./flags.ts";
import { judge, judgeProblems } from "./judge_config.ts";
import { judgeOptions } from "./judge_reward.ts";
import { count } from "./method_config.ts";
import { type RequestOptions, RequestProblem, readRequest } from "./reward_requests.ts";
import { runMain, UserError, userErrorOf } from "./user_error.ts";

export const serverSettings = z.strictObject({
  data: z.string().nullable().default(null).describe("Questions that requests may name by id"),
  reward: z.enum(rewards).default("alias").describe("What counts as a right answer"),
  host: z.string().default("127.0.0.1").describe("Address to listen at; 0.0.0.0: every one"),
  port: z.int().min(0).max(65535).default(8088).describe("Port to listen at; 0: any free one"),
  megabytes: count("Longest request").default(16),
  nullScore: z
    .number()
    .nullable()
    .default(null)
    .describe("Pay of an answer without a verdict where an engine takes numbers only; none: error"),
  form: z
    .enum(promptForms)
    .nullable()
    .default(null)
    .describe("Form of the engine's prompts: what of its words is the answer; none: all of them"),
  think: z.boolean().default(false).describe("… where the prompts let the model think first"),
  ends: z
    .array(z.string().min(1))
    .default([])
    .describe("Texts that end an answer, such as <|im_end|>, for engines that send them along"),
  judge,
});
type Settings = z.output<typeof serverSettings>;

export interface RewardServerOptions extends RequestOptions {
  readonly judge: AsyncJudge;
  /** "alias", or the judging model: told by /health. */
  readonly name: string;
  readonly mostBytes: number;
}

/** What of an engine's words a run of ours would judge: up to the first end, then as prompt.ts reads. */
export function answerReader({
  form,
  think,
  ends,
}: Pick<Settings, "form" | "think" | "ends">): (words: string) => string {
  return (words) => {
    const cuts = ends.map((end) => words.indexOf(end)).filter((at) => at >= 0);
    const said = words.slice(0, Math.min(words.length, ...cuts));
    return form === null ? said.trim() : readAnswer({ form, think }, said);
  };
}

/** The server, not yet listening: POST /reward, GET /health. */
export function rewardServer(options: RewardServerOptions): Server {
  const state = { judged: 0, unjudged: 0 };
  return createServer((request, response) => {
    answer(request, options, state)
      .catch((error: unknown) => failure(error))
      .then(({ status, body, headers = {} }) => send(response, status, body, headers));
  });
}

interface Outcome {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Record<string, string>;
}

async function answer(
  request: IncomingMessage,
  options: RewardServerOptions,
  state: { judged: number; unjudged: number },
): Promise<Outcome> {
  const path = new URL(request.url ?? "/", "http://x").pathname;
  const wanted = { "/health": "GET", "/reward": "POST" }[path];
  if (wanted === undefined) {
    throw new RequestProblem(404, `there is no ${path}: POST /reward, GET /health`);
  }
  if (request.method !== wanted) {
    const body = { error: `${path} takes ${wanted}, not ${request.method}` };
    return { status: 405, body, headers: { allow: wanted } };
  }
  if (path === "/health") {
    const { name: reward, questions } = options;
    return { status: 200, body: { status: "ok", reward, questions: questions.size, ...state } };
  }
  const { items, reply } = readRequest(await jsonBody(request, options.mostBytes), options);
  const judgements = await options.judge(items);
  state.judged += judgements.length;
  state.unjudged += judgements.filter(({ score }) => score === null).length;
  return { status: 200, body: reply(judgements) };
}

/** The request's JSON; a RequestProblem where it is too long or none. */
async function jsonBody(request: IncomingMessage, most: number): Promise<unknown> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of request) {
    length += (part as Uint8Array).length;
    // The rest is read and dropped: a client that still writes would not read our answer.
    if (length <= most) parts.push(part as Uint8Array);
  }
  if (length > most) {
    throw new RequestProblem(413, `the body has ${length} bytes, at most ${most} are taken`);
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts)));
  } catch (error) {
    throw new RequestProblem(400, `the body is no JSON: ${(error as Error).message}`);
  }
}

function failure(error: unknown): Outcome {
  if (error instanceof RequestProblem) {
    const headers: Record<string, string> = error.status === 503 ? { "retry-after": "5" } : {};
    return { status: error.status, body: { error: error.message }, headers };
  }
  if (error instanceof UserError) {
    // The judge is away or refuses: the client's own retries may find it again.
    const headers = { "retry-after": "30" };
    return { status: 503, body: { error: error.message }, headers };
  }
  // A client that hung up in the middle of its request hears no answer.
  const hungUp = ["ECONNRESET", "ERR_STREAM_PREMATURE_CLOSE"].includes(codeOf(error) ?? "");
  if (!hungUp) console.error(error);
  return { status: 500, body: { error: "a fault of the reward server; its log has it" } };
}

function send(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string>,
): void {
  const text = JSON.stringify(body);
  const length = String(Buffer.byteLength(text));
  const own = { "content-type": "application/json", "content-length": length };
  response.writeHead(status, { ...own, ...headers }).end(text);
}

/** Listens; resolves to the address. */
export function listen(server: Server, port: number, host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "the port is in use" : error.message;
      reject(new UserError(`cannot listen at ${host}:${port}: ${why}; choose another --port`));
    });
    server.listen(port, host, () => {
      resolve(`http://${host}:${(server.address() as AddressInfo).port}`);
    });
  });
}

/** The rule or the judge that the settings name. */
async function judgeOf(own: Settings): Promise<{ name: string; judge: AsyncJudge; close(): void }> {
  const { reward } = own;
  if (reward === "llm") {
    const made = await serverJudge({
      ...judgeOptions(own, "."),
      print: (text) => console.log(text),
    });
    return { name: `llm ${made.model}`, judge: made.judge, close: made.close };
  }
  if (reward === "noisy" || reward === "random") {
    throw new UserError(`reward ${reward} is drawn by step and row, which engines do not send`);
  }
  return { name: reward, judge: ruleAsync(rules[reward]), close() {} };
}

function settingsOf(argv: readonly string[]): Settings | undefined {
  const flags = parseFlags(argv, fieldsOf(serverSettings), [helpFlag]);
  if (flags.command.has("--help")) return undefined;
  const parsed = serverSettings.safeParse(flags.values);
  const problems = [
    ...flags.problems,
    ...(parsed.error?.issues ?? []).map(({ path, message }) => `--${path.join(".")}: ${message}`),
    ...(parsed.success ? judgeProblems(parsed.data) : []),
  ];
  if (problems.length > 0 || !parsed.success)
    throw userErrorOf(problems, "--help lists every flag.");
  return parsed.data;
}

async function main(): Promise<void> {
  const own = settingsOf(process.argv.slice(2));
  if (own === undefined) {
    const usage = {
      name: "bun run rl/reward_server.ts",
      description:
        "Serves the reward: POST /reward with {answers: [{id, answer}]}, {answers: [{question, gold,\n" +
        "accepted, answer}]}, verl's {data_source, solution_str, ground_truth, extra_info}, or\n" +
        "OpenRLHF's {query, prompts, labels}; GET /health.",
    };
    return console.log(helpText(usage, serverSettings, [helpFlag], serverSettings.parse({})));
  }
  const file = own.data === null ? undefined : await readQuestionFile(own.data, { strict: true });
  const questions = new Map((file?.questions ?? []).map((one) => [one.id, one]));
  const { name, judge: pays, close } = await judgeOf(own);
  const server = rewardServer({
    ...{ judge: pays, name, questions, nullScore: own.nullScore ?? undefined },
    read: answerReader(own),
    mostBytes: own.megabytes * 2 ** 20,
  });
  const address = await listen(server, own.port, own.host);
  const stop = () => {
    server.close(close);
    server.closeAllConnections?.();
    console.log("stopped");
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  // Last: who reads it may stop us at once.
  console.log(`reward ${name}, ${questions.size} questions, at ${address}/reward (Ctrl-C stops)`);
}

if (import.meta.main) await runMain(main);
