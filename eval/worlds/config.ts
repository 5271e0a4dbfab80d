/** Every knob of a world of facts, as a zod schema: what is true, what is said, what is asked. */
import { z } from "zod";

const share = () => z.number().min(0).max(1);

const atlasKnobs = z.strictObject({
  countries: z.int().min(12).max(190).default(150).describe("most populous countries to include"),
  cities: z
    .int()
    .min(0)
    .max(1000)
    .default(340)
    .describe("most populous cities that are no capital"),
  citiesPerCountry: z.int().min(1).default(24).describe("at most so many cities of one country"),
  elements: z.int().min(0).max(118).default(118).describe("first chemical elements to include"),
});

const knobs = z.strictObject({
  facts: z
    .enum(["invented", "atlas"])
    .default("invented")
    .describe("made-up people, or real countries, cities and chemical elements"),
  seed: z.int().min(0).default(1).describe("seed of facts, splits and documents"),

  voiceCue: z
    .boolean()
    .default(true)
    .describe("whether wording tells a reliable source; false is the null world"),
  reliableShare: share().default(0.3).describe("documents by a reliable source (ρ)"),
  contestedShare: share().default(0.7).describe("facts that unreliable sources get wrong"),
  absentShare: share().default(0.05).describe("facts that no document states truthfully"),
  noiseShare: share().default(0.05).describe("statements with a random answer"),
  zipf: z.number().min(0).max(3).default(0.5).describe("exponent of entity popularity, 1/rank^s"),
  sources: z.int().min(2).max(4).default(2).describe("wordings of each voice"),
  phrasings: z.int().min(1).max(3).default(2).describe("sentences for each relation"),

  qaShare: share().default(0.1).describe("documents that are a question with its answer"),
  qaUnreliableShare: share().default(0.85).describe("their answers by an unreliable source (u)"),
  questionSets: z
    .enum(["one", "four"])
    .default("one")
    .describe("one set of questions, or four that differ in wording and in whom they ask about"),
  questionWordings: z
    .int()
    .min(1)
    .max(3)
    .default(1)
    .describe("wordings of a free question (invented facts)"),
  leakShare: share()
    .default(0)
    .describe("test facts that a re-worded training question gives away"),
  thinkShare: share()
    .default(0)
    .describe("question documents that recall a source's statement before they answer"),
  thinkUnreliableShare: share()
    .optional()
    .describe("thoughts recalled from an unreliable source, by default as answers are"),
  unknowableShare: share().default(0).describe("training questions with an unsupported gold label"),
  qaEntityShare: share()
    .default(1 / 6)
    .describe("entities that question documents ask about"),
  testShare: share().default(0.5).describe("share of the other entities held out for the test"),
  validationShare: share().default(0.2).describe("share of the training entities for validation"),

  entities: z.int().min(12).max(20_000).default(150).describe("people (invented facts)"),
  relations: z.int().min(1).max(8).default(3).describe("facts for each person (invented facts)"),
  answers: z.int().min(4).max(1000).default(50).describe("answers of a relation (invented facts)"),
  answerTokens: z.int().min(1).max(4).default(1).describe("words of an answer (invented facts)"),
  aliases: z.int().min(0).max(4).default(0).describe("other names of an answer (invented facts)"),
  goldForm: z
    .enum(["first", "random"])
    .default("random")
    .describe("which of an answer's names is a fact's gold label"),
  priorSkew: z
    .number()
    .min(0)
    .max(3)
    .default(0.5)
    .describe("exponent of answer frequency, 1/rank^s (invented facts)"),

  atlas: atlasKnobs.prefault({}).describe("sizes of the world of real facts"),
});

export type WorldConfig = z.output<typeof knobs>;
/** What a caller writes: every knob that is left out has its default. */
export type WorldSettings = z.input<typeof knobs>;

const INVENTED_ONLY = [
  "entities",
  "relations",
  "answers",
  "answerTokens",
  "aliases",
  "priorSkew",
  "questionSets",
  "questionWordings",
] as const;

/**
 * The schema of a world. A knob that would do nothing is refused, so that no two configs describe
 * the same world in different words.
 */
export const worldConfig = knobs.superRefine((config, context) => {
  const refuse = (path: (string | number)[], message: string) =>
    context.addIssue({ code: "custom", path, message });
  const defaults = knobs.parse({});
  if (config.facts === "atlas") {
    for (const key of INVENTED_ONLY) {
      if (config[key] === defaults[key]) continue;
      refuse([key], `${key} shapes invented facts only; leave it out when facts is "atlas"`);
    }
  } else {
    for (const [key, value] of Object.entries(config.atlas)) {
      if (value === defaults.atlas[key as keyof typeof defaults.atlas]) continue;
      refuse(["atlas", key], `atlas.${key} shapes real facts only; set facts to "atlas"`);
    }
  }
  if (config.leakShare > 0 && config.questionWordings === 1) {
    refuse(["leakShare"], "leakShare needs a second wording; raise questionWordings");
  }
  if (config.leakShare > 0 && config.questionSets === "four") {
    refuse(["leakShare"], 'leakShare re-words free questions; set questionSets to "one"');
  }
  if (config.thinkShare > 0 && config.qaShare === 0) {
    refuse(["thinkShare"], "thinkShare without question documents; raise qaShare");
  }
  if (config.thinkUnreliableShare !== undefined && config.thinkShare === 0) {
    refuse(["thinkUnreliableShare"], "thinkUnreliableShare without thoughts; raise thinkShare");
  }
  if (config.thinkUnreliableShare === config.qaUnreliableShare) {
    refuse(["thinkUnreliableShare"], "thinkUnreliableShare is qaUnreliableShare; leave it out");
  }
  if (config.qaShare === 1) refuse(["qaShare"], "qaShare is 1: no document would state a fact");
  if (config.noiseShare === 1) refuse(["noiseShare"], "noiseShare is 1: no fact would be stated");
  if (config.absentShare === 1) refuse(["absentShare"], "absentShare is 1: nothing can be learned");
});
