/** Alias match: right if the answer is any accepted name. Stands in for a semantic judge. */
import { type Judge, verdict } from "./judge.ts";
import { answerKey } from "./normalised.ts";

export const aliasJudge: Judge = ({ gold, accepted }, answer) => {
  const predicted = answerKey(answer);
  const match = accepted.find((name) => answerKey(name) === predicted);
  if (predicted === "" || match === undefined) {
    return verdict(false, predicted, `is none of the ${accepted.length} names of "${gold}"`);
  }
  return verdict(true, predicted, match === gold ? "is the gold text" : `is a name of "${gold}"`);
};
