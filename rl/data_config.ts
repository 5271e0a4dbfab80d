/** Settings of a run on real questions: a model's folder and a question file in place of a world. */
import { z } from "zod";
import { formats } from "../eval/datasets/formats.ts";
import { type RuleName, ruleNames } from "../eval/judge/rules.ts";
import { promptForms } from "../eval/prompt.ts";
import { count, share, when } from "./method_config.ts";

const path = (text: string) => z.string().min(1).describe(text);
const text = (words: string) => z.string().min(1).nullable().default(null).describe(words);

// Optional as a whole: a run of a world has no such group, so that its hash is what it was before.
export const data = z
  .strictObject({
    file: path("Question file (--data)"),
    model: path("Folder of the model to train (--model)"),
    format: z
      .enum(["auto", ...formats])
      .default("auto")
      .describe("Whose field names the file has; auto: seen from its rows"),
    testFile: text("File of the held-out questions; none: a share of the entities is held out"),
    limit: count("Questions read from a file; none: all").nullable().default(null),
    testShare: share("Share of the entities that is held out").default(0.3),
    validationShare: share("Share of the rest that weights are chosen by").default(0.15),
    testQuestions: count("Held-out questions, drawn at random; none: all").nullable().default(null),
    prompt: z
      .enum(["auto", ...promptForms])
      .default("auto")
      .describe("Turns of its chat template | Q: … A: | the bare text; auto: chat if it has one"),
    promptText: text("Words around {question}; none: those of the form"),
    system: text("System message of chat prompts"),
    think: z.boolean().default(false).describe("Let the model think before it answers"),
    judge: z
      .enum(ruleNames)
      .nullable()
      .default(null)
      .describe(
        "What held-out answers are judged by; none: the reward's rule, alias if it has none",
      ),
  })
  .optional();

export type DataSettings = NonNullable<z.output<typeof data>>;

/** In place of the two paths that have no default: what help and --dry-run compare with. */
export const dataPlaceholder = { file: "FILE", model: "FOLDER" };

/** The rule that held-out answers are judged by: a reward that is random or errs is none. */
export function heldOutRule(settings: {
  readonly reward: string;
  readonly data?: DataSettings | undefined;
}): RuleName {
  const { reward, data: given } = settings;
  const own = ruleNames.find((name) => name === reward);
  return given === undefined ? "alias" : (given.judge ?? own ?? "alias");
}

/** Groups that only a run of a world reads. */
export const worldGroups = ["world", "model", "pretrain", "warmStart"] as const;

export function dataProblems(
  { preset, data: given }: { readonly preset: string; readonly data?: DataSettings | undefined },
  changed: readonly string[],
): string[] {
  if (given === undefined) {
    return when([
      preset === "data",
      "preset data needs a question file and a model: --data FILE --model FOLDER",
    ]);
  }
  return when(
    [
      changed.length > 0,
      `${changed.join(", ")}: settings of a world, which --data takes the place of; leave them out`,
    ],
    [
      given.testFile === null && given.testShare === 0,
      "data.testShare 0 without data.testFile: nothing is held out",
    ],
    [given.validationShare === 0, "data.validationShare 0: no question to choose weights by"],
    [
      given.promptText !== null && !given.promptText.includes("{question}"),
      "data.promptText has no {question}: every prompt would be the same",
    ],
    [
      given.system !== null && given.prompt !== "auto" && given.prompt !== "chat",
      `data.system with data.prompt ${given.prompt}: only chat has a system message`,
    ],
  );
}
