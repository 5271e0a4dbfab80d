/** What a reader who has not read the paper needs: the question, the words, how it was made. */

import type { Report } from "./model.ts";

/** The first paragraphs of a report. */
export function summary({ lines, scale, paper }: Report): string {
  const count = (answer: string) => lines.filter(({ verdict }) => verdict === answer).length;
  const size =
    scale === "quick"
      ? "This is the quick reproduction: one world, one seed, models of 0.17M parameters. Its intervals are wide, and one seed shows a direction, no more."
      : "This is the full reproduction: three worlds, with three RL seeds in each where claims rest on seeds, models of 0.85M parameters.";
  return [
    `A language model stores more facts than it says. The paper (${paper.source}) reports that reinforcement, which rewards right answers about some facts, makes a model say other facts, which it was not trained on, and argues that the knowledge was there before. Here its claims are put to small transformers in made-up worlds, where it is known of every fact whether it was stored, suppressed by a common myth, or never stated at all.`,
    `Of ${lines.length} claims ${count("yes")} came out in the same direction, ${count("no")} did not, and ${count("inconclusive")} could not be told apart from chance. The rules for this were written down before any run (experiments/verdicts.json): yes and no each need the whole interval on their side. ${size}`,
    "A toy world can show that a mechanism exists and when it does not; it can't show that large models work by it, and its percentages are no estimate of theirs.",
  ].join("\n\n");
}

/** Words that the report uses, in the order in which they come up. */
export const terms: readonly (readonly [word: string, meaning: string])[] = [
  [
    "held-out",
    "Questions about entities that training never asked about. Everything is measured on them.",
  ],
  [
    "greedy",
    "The model's one most likely answer, which is what counts unless a text says otherwise.",
  ],
  [
    "gain, points",
    "Accuracy after training minus accuracy before, in points of 100. Brackets are 95 % intervals over worlds and whole entities.",
  ],
  [
    "stored, suppressed, absent",
    "What the world's documents say of a fact: every source states the truth; only reliable sources do, and the others repeat a myth; no source does.",
  ],
  [
    "accessibility",
    "How many of 128 sampled answers were right before training. 0 of 128 does not mean never: a fact said once in 1,000 samples shows 0 of 128 in 88 % of cases.",
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
    "Training questions whose gold answer no document supports, as real question sets have them.",
  ],
  [
    "null world",
    "The same world in the same words, but wording tells nothing about truth. What is gained there is not recall.",
  ],
];

export const how =
  "Every number comes from the runs named below each section, whose folders hold all settings, every question before and after, and every step's figures. The same command makes them again, and goes on where it was stopped:";
