/** What samplers by token ids share: one check of the log-probabilities, prompts side by side. */

import type { SampleOptions } from "../../model/sample.ts";
import { requireProcessed } from "./log_prob_mode.ts";
import type { Completion, Sampler } from "./sampler.ts";
import type { Server } from "./server.ts";

/** How an engine is asked. */
export interface Engine {
  /** "vLLM", in errors. */
  readonly name: string;
  /** What of it is sampled, for headers: default `name`. */
  readonly what?: string;
  /** How to start it so that log-probabilities are taken after the temperature. */
  readonly remedy: string;
  /** Log-probability of the likeliest token after a prompt. */
  readonly top: (prompt: readonly number[], temperature: number) => Promise<number>;
  /** `samplesPerPrompt` completions of the p-th prompt. */
  readonly completions: (
    prompt: readonly number[],
    p: number,
    options: SampleOptions,
  ) => Promise<readonly Completion[]>;
}

/** Before the first sample at a temperature the server is asked how its log-probabilities are taken. */
export function tokenSampler(server: Server, engine: Engine): Sampler {
  const { name, what = name, remedy, top, completions } = engine;
  const checked = new Set<number>();
  return {
    name: `${what} at ${server.url}`,
    async sample(prompts, settings) {
      const { temperature = 1 } = settings;
      if (prompts.length > 0 && !checked.has(temperature)) {
        const named = { name: `${name} at ${server.url}`, remedy, print: server.print };
        await requireProcessed((t) => top(prompts[0]!, t), temperature, named);
        checked.add(temperature);
      }
      const groups = await server.each(prompts, (prompt, p) => completions(prompt, p, settings));
      const all = groups.flat();
      return {
        tokens: all.map(({ tokens }) => tokens),
        logProbs: all.map(({ logProbs }) => logProbs),
        finished: all.map(({ finished }) => finished),
      };
    },
  };
}
