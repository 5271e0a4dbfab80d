/** Settings of a server that trains: --trainer.url, --trainer.model and their like; what it has not. */
import { z } from "zod";
import { above0, count, lora as loraShape, when } from "./method_config.ts";

// No defaults here: a run that trains in this process has no such group, so that its hash is what it
// was before there were such servers. What is absent is decided in tinker_trainer.ts.
export const trainer = z
  .strictObject({
    url: z
      .string()
      .min(1)
      .optional()
      .describe("Tinker-compatible server, such as http://localhost:8000; none: this process"),
    model: z.string().min(1).optional().describe("Name that the model has there"),
    concurrency: count("Questions asked at a time; none: 32").optional(),
    timeoutSeconds: above0("Longest wait for an operation to be done; none: 3600").optional(),
    patienceSeconds: above0("How long it may be down; none: 600").optional(),
  })
  .optional()
  .transform((given) => (given && Object.keys(given).length > 0 ? given : undefined))
  .describe("the server that trains and samples (--data runs); its key: TINKER_API_KEY");

export type TrainerSettings = z.output<typeof trainer>;

interface Settings {
  readonly method: string;
  readonly trainer?: TrainerSettings;
  readonly data?: object | undefined;
  readonly sampler?: { readonly engine?: string | undefined } | undefined;
  readonly train: { readonly temperature: number };
  readonly optimizer: { readonly name: string };
  readonly lora: z.output<typeof loraShape>;
  readonly grpo: {
    readonly ratioLevel: string;
    readonly surrogate: string;
    readonly ratioCap: number | null;
    readonly dualClip: number | null;
    readonly klCoefficient: number;
    readonly entropyCoefficient: number;
    readonly importance: string;
  };
}

/** What the protocol has no word for, and what to use instead. */
export function trainerProblems(settings: Settings): string[] {
  const { method, trainer: asked, data, sampler, train, optimizer, lora, grpo } = settings;
  const given = Object.keys(asked ?? {}).map((name) => `trainer.${name}`);
  if (given.length === 0) return [];
  const { url, model } = asked ?? {};
  const usual = loraShape.parse({});
  const onServer = (setting: string, why: string) => `${setting} on a Tinker server: ${why}`;
  const policy = (holds: boolean, setting: string, why: string) =>
    [method === "grpo" && holds, onServer(setting, why)] as const;
  return when(
    [url === undefined, `${given} without trainer.url: where the server listens`],
    [url !== undefined && model === undefined, "trainer.url needs trainer.model: its name there"],
    [
      data === undefined,
      "trainer.url without --data and --model: a world's own model is trained in this process; a " +
        "server has real ones",
    ],
    [
      method === "ppo" || method === "dpo",
      onServer(
        `method ${method}`,
        method === "ppo"
          ? "it has no critic; use grpo"
          : "it has no loss on pairs of answers; use rft or sft",
      ),
    ],
    [
      sampler?.engine !== undefined,
      "sampler.engine and trainer.url: the server that trains samples too; leave sampler out",
    ],
    [
      train.temperature !== 1,
      onServer(
        `train.temperature ${train.temperature}`,
        "its losses take log-probabilities at temperature 1; use 1",
      ),
    ],
    [
      optimizer.name !== "adamw",
      onServer(`optimizer.name ${optimizer.name}`, "it has AdamW alone; use adamw"),
    ],
    [
      lora.rank > 0 && (lora.alpha !== usual.alpha || lora.targets.join() !== usual.targets.join()),
      onServer("lora.alpha and lora.targets", "it chooses both; give lora.rank alone"),
    ],
    policy(grpo.klCoefficient > 0, `grpo.klCoefficient ${grpo.klCoefficient}`, "use 0"),
    policy(
      grpo.entropyCoefficient > 0,
      `grpo.entropyCoefficient ${grpo.entropyCoefficient}`,
      "its losses see the sampled tokens alone; use 0",
    ),
    policy(
      grpo.ratioLevel !== "token",
      `grpo.ratioLevel ${grpo.ratioLevel}`,
      "its ratios are of tokens; use token",
    ),
    policy(
      grpo.surrogate === "soft",
      "grpo.surrogate soft",
      "it clips (ppo) or caps (cispo); use clip or cispo",
    ),
    policy(
      grpo.surrogate === "clip" && grpo.ratioCap !== null,
      `grpo.ratioCap ${grpo.ratioCap} with surrogate clip`,
      "its ppo loss has no second cap; use none",
    ),
    policy(grpo.dualClip !== null, `grpo.dualClip ${grpo.dualClip}`, "use none"),
    policy(
      grpo.importance !== "none",
      `grpo.importance ${grpo.importance}`,
      "its ratio is against what sampled already; use none",
    ),
  );
}
