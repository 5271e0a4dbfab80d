/** Containment: right if an accepted text stands in the answer, as whole words in any case. */
import { type Judge, verdict } from "./judge.ts";

export const containsJudge: Judge = ({ gold, accepted }, answer) => {
  const said = words(answer);
  const found = accepted.find((text) => holds(said, words(text)));
  return found === undefined
    ? verdict(false, answer, `holds none of the ${accepted.length} texts such as "${gold}"`)
    : verdict(true, answer, `holds "${found}"`);
};

/** Lower case, every run of what is neither letter nor digit as one space, a space at both ends. */
const words = (text: string): string =>
  ` ${text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[^\p{L}\p{M}\p{N}]+/gu, " ")
    .trim()} `;

/** Without a letter or a digit there is nothing to look for. */
const holds = (said: string, text: string): boolean => text.trim() !== "" && said.includes(text);
