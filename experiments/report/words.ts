/** What a reader who has not read the paper needs: the question, the words, how it was made. */

import type { Line, Report } from "./model.ts";

/** How many of some lines came out which way. */
const tally = (lines: readonly Line[]) => {
  const count = (answer: Line["verdict"]) =>
    lines.filter(({ verdict }) => verdict === answer).length;
  return { all: lines.length, yes: count("yes"), no: count("no"), open: count("inconclusive") };
};

/** The first paragraphs of a report. */
export function summary({ lines, studies, scale, paper }: Report): string {
  const isOurs = ({ reported }: Line) => reported === undefined;
  const theirs = tally(lines.filter((line) => !isOurs(line)));
  const ours = tally(lines.filter(isOurs));
  const again = studies.flatMap((study) => (study.again ? study.claims : []));
  const size =
    scale === "quick"
      ? "This is the quick reproduction: one world, one seed, models of 0.17M parameters. Its intervals are wide, and one seed shows a direction, no more."
      : "This is the full reproduction: three worlds, with three RL seeds in each where claims rest on seeds, models of 0.85M parameters where a section says nothing else.";
  const second =
    again.length === 0
      ? []
      : [
          `${again.join(" and ")}, among what three worlds had left open, ${again.length === 1 ? "was" : "were"} asked again of six others.`,
        ];
  return [
    `A language model stores more facts than it says. The paper (${paper.source}) reports that reinforcement, which rewards right answers about some facts, makes a model say other facts, which it was not trained on, and argues that the knowledge was there before. Here its claims are put to small transformers in made-up worlds, where it is known of every fact whether it was stored, suppressed by a common myth, or never stated at all.`,
    `Of the paper's ${theirs.all} claims ${theirs.yes} came out in the same direction, ${theirs.no} did not, and ${theirs.open} are left open (inconclusive). Of ${ours.all} checks of our own, which need a world whose truth is known, ${ours.yes} held, ${ours.no} did not, and ${ours.open} ${ours.open === 1 ? "is" : "are"} left open. The rules were written down before any run (experiments/verdicts.json): yes and no each need the whole interval on their side of a bound, and where a claim has several parts, one open part leaves it open.`,
    [size, ...second].join(" "),
    "A toy world can show that a mechanism exists and when it does not; it can't show that large models work by it, and its percentages are no estimate of theirs.",
  ].join("\n\n");
}

/** Words that the report uses: the world's, the training's, the measurements'. */
export const terms: readonly (readonly [word: string, meaning: string])[] = [
  [
    "world, voice",
    "Made-up people with made-up facts, and the documents that tell of them. Documents come from reliable or from unreliable sources, and each kind words things in its own way: its voice.",
  ],
  [
    "stored, suppressed, absent",
    "What a world's documents say of a fact: every source states the truth; only reliable sources do, and the others repeat a myth; no source does.",
  ],
  [
    "ceiling",
    "The share of facts that the base model continues rightly after a reliable source's sentence: what it has learned, whether it says it or not.",
  ],
  ["base model", "The model after it has read the documents, and before any of the methods below."],
  [
    "held-out",
    "Questions about people whom training never asked about. Everything is measured on them.",
  ],
  [
    "greedy",
    "The model's one most likely answer, which is what counts unless a text says otherwise.",
  ],
  [
    "chosen weights, last weights",
    "While a method trains, other people's questions (validation) choose among its weights, the base model's included; last weights are those of the last step, whatever validation says.",
  ],
  ["seed", "What draws the question order and the sampled answers of one training (RL seed)."],
  [
    "gain, points",
    "Accuracy after training minus accuracy before, in points of 100. Brackets are 95 % intervals unless a text says otherwise. Means, gains and their shares have intervals over worlds and whole people; counts of single facts (repair by bin, what became of repaired or never-sampled facts, a judge's errors) have Wilson's or Newcombe's, which take facts as independent.",
  ],
  ["repaired, broken", "Wrong before and right after; right before and wrong after."],
  [
    "accessibility",
    "How many of 128 sampled answers were right before training. 0 of 128 does not mean never: a fact said once in 1,000 samples shows 0 of 128 in 88 % of cases. A stratum is the training questions in a range of it.",
  ],
  [
    "pass@k",
    "The chance that at least one of k sampled answers is right, estimated without bias from 256 samples.",
  ],
  [
    "GRPO, PPO, RFT, SFT, DPO",
    "Ways to train on questions: reward sampled answers against their group; the same with a value model; imitate one's own right answers; imitate the gold answers; prefer gold to sampled wrong answers.",
  ],
  [
    "unknowable labels",
    "Gold answers of training questions that no document supports, as real question sets have them. Where it says 60 %, so many labels were replaced; with those that ask for absent facts two thirds can't be known.",
  ],
  [
    "gold, names, alias judge",
    "The gold answer is one text. Where answers have several names, the alias judge takes any of them, exact match the gold text alone.",
  ],
  [
    "Asked, Trivia, Tail, Frontier",
    "Question sets after four benchmarks: free wordings; popular people; little-known people; facts that the documents seldom or never state.",
  ],
  [
    "reciting",
    "To write down a sentence that was read before giving the answer: what stands here for a chain of thought.",
  ],
  [
    "null world",
    "The same world in the same words, but wording tells nothing about truth. What is gained there is not recall.",
  ],
  [
    "McNemar's p, kappa, z",
    "The chance of so lopsided a count of repaired and broken if training changed nothing; a judge's agreement beyond that of chance (1 is perfect); a trend in its standard deviations.",
  ],
];

export const how =
  "Every number comes from the runs named below each section, whose folders hold all settings, every question before and after, and every step's figures. The same command makes them again, and goes on where it was stopped:";
