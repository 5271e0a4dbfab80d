/** Exact match: right if the answer is the gold text, letter for letter. */
import { type Judge, verdict } from "./judge.ts";

export const exactJudge: Judge = ({ gold }, answer) =>
  answer === gold
    ? verdict(true, answer, "is the gold text")
    : verdict(false, answer, `is not the gold text "${gold}"`);
