/** Settings of an engine that samples rollouts: --sampler.engine, --sampler.url and their like. */
import { z } from "zod";
import { above0, count, when } from "./method_config.ts";

// No defaults here: a run that samples in this process has no such group, so that its hash is what it
// was before there were engines. What is absent is decided in remote_sampler.ts.
export const sampler = z
  .strictObject({
    engine: z.enum(["vllm", "sglang"]).optional().describe("Whose server; none: this process"),
    url: z.string().min(1).optional().describe("Its address, such as http://localhost:8000/v1"),
    model: z.string().min(1).optional().describe("Name that the model must have there; none: any"),
    pathOnServer: z
      .string()
      .min(1)
      .optional()
      .describe("Where it sees the run's folder sampler, which hands weights over; none: as here"),
    concurrency: count("Questions asked at a time; none: 32").optional(),
    timeoutSeconds: above0("Longest wait for an answer; none: 600").optional(),
    patienceSeconds: above0("How long it may be down; none: 600").optional(),
  })
  .optional()
  .transform((given) => (given && Object.keys(given).length > 0 ? given : undefined))
  .describe("the engine that samples rollouts (--data runs); its key: SAMPLER_API_KEY");

export type SamplerSettings = z.output<typeof sampler>;

/** Where an engine samples, its probabilities differ from the trainer's by default corrected. */
export const withSampler = { grpo: { importance: "token" } } as const;

interface Settings {
  readonly method: string;
  readonly sampler?: SamplerSettings;
  readonly data?: object | undefined;
  readonly lora: { readonly rank: number };
  readonly dpo: { readonly sampleFrom: string };
}

export function samplerProblems({ method, sampler: asked, data, lora, dpo }: Settings): string[] {
  const given = Object.keys(asked ?? {}).map((name) => `sampler.${name}`);
  if (given.length === 0) return [];
  const { engine, url } = asked ?? {};
  if (engine === undefined) return [`${given} without sampler.engine: set it to vllm or sglang`];
  const named = `sampler.engine ${engine}`;
  return when(
    [url === undefined, `${named} needs sampler.url: where it listens`],
    [
      data === undefined,
      `${named} without --data and --model: a world's own model answers in this process; an engine ` +
        "serves a model's folder",
    ],
    [
      engine === "vllm" && lora.rank === 0,
      `${named} with lora.rank 0: vLLM takes new weights as adapters alone; set --lora 16, or use ` +
        "sglang, which takes all weights",
    ],
    [method === "sft", `${named} with method sft: it learns from gold answers and samples none`],
    [
      method === "dpo" && dpo.sampleFrom === "base",
      `${named} with dpo.sampleFrom base: the engine has the policy's weights, the base model ` +
        "answers in this process; use policy, or leave sampler out",
    ],
  );
}
