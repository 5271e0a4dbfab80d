/** What llama.cpp makes of GGUF files: tokens, probabilities, greedy continuations. Run by Node. */
// Reads a JSON list of requests on stdin, and writes a line of JSON for each. Its one argument is
// the folder with node-llama-cpp; scripts/llama_cpp.ts installs it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export interface Request {
  readonly path: string;
  /** Token ids, of which every position's successor is asked for. */
  readonly tokens: readonly number[];
  /** How many tokens follow greedily behind the first of `tokens`. */
  readonly greedy: number;
  /** Texts to be turned into token ids, and back. */
  readonly texts?: readonly string[];
}
export interface Answer {
  readonly error?: string;
  /** [position][token] */
  readonly probabilities?: number[][];
  readonly greedy?: number[];
  readonly tokenized?: number[][];
  readonly detokenized?: string[];
}

/** The part of node-llama-cpp that is used. */
interface Sequence {
  controlledEvaluate(
    input: readonly (readonly [token: number, options: object])[],
  ): Promise<({ next: { token?: number; probabilities?: Map<number, number> } } | undefined)[]>;
  clearHistory(): Promise<void>;
}
interface LoadedModel {
  tokenize(text: string, special?: boolean, options?: "trimLeadingSpace"): number[];
  detokenize(tokens: readonly number[], special?: boolean): string;
  createContext(options: object): Promise<{ getSequence(): Sequence; dispose(): Promise<void> }>;
  dispose(): Promise<void>;
}

const [folder] = process.argv.slice(2) as [string];
const entry = join(folder, "node_modules/node-llama-cpp/dist/index.js");
const { getLlama } = await import(pathToFileURL(entry).href);
const llama = await getLlama({ build: "never", gpu: false, logLevel: "error" });

async function answer({ path, tokens, greedy, texts = [] }: Request): Promise<Answer> {
  const model: LoadedModel = await llama.loadModel({ modelPath: path, useMmap: false });
  try {
    const contextSize = Math.max(tokens.length, greedy) + 8;
    const exact = { experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" };
    const sizes = { contextSize, batchSize: contextSize, threads: 1 };
    const context = await model.createContext({ ...sizes, ...exact, flashAttention: false });
    const sequence = context.getSequence();
    const next = { generateNext: { token: true, probabilities: true } };
    const results = await sequence.controlledEvaluate(tokens.map((token) => [token, next]));
    const probabilities = results.map((result) => {
      const found = result!.next.probabilities!;
      return Array.from({ length: found.size }, (_, id) => found.get(id)!);
    });
    await sequence.clearHistory();
    const followed: number[] = [];
    let last = tokens[0]!;
    for (let i = 0; i < greedy; i++) {
      const [result] = await sequence.controlledEvaluate([
        [last, { generateNext: { token: true } }],
      ]);
      last = result!.next.token!;
      followed.push(last);
    }
    await context.dispose();
    const tokenized = texts.map((text) => model.tokenize(text));
    const detokenized = tokenized.map((ids) => model.detokenize(ids));
    return { probabilities, greedy: followed, tokenized, detokenized };
  } finally {
    await model.dispose();
  }
}

for (const request of JSON.parse(readFileSync(0, "utf8")) as Request[]) {
  const result = await answer(request).catch((error: Error) => ({ error: error.message }));
  console.log(JSON.stringify(result));
}
await llama.dispose();
