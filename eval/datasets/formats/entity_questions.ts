/** EntityQuestions: a file for each relation of Wikidata, or all in one with the relation's id. */
import { z } from "zod";
import { type FormatReader, key, parsed, questionOf, text, texts } from "../fields.ts";

const schema = z.object({
  id: key,
  question: text,
  answers: texts,
  relation: z.string().nullish(),
});

/** How each relation asks, the entity between the two parts. */
const WORDINGS: Readonly<Record<string, readonly (readonly [before: string, behind: string])[]>> = {
  P17: [["Which country is ", " located in?"]],
  P19: [
    ["Where was ", " born?"],
    ["What is the birthplace of ", "?"],
  ],
  P20: [["Where did ", " die?"]],
  P26: [["Who is ", " married to?"]],
  P30: [["Which continent is ", " located?"]],
  P36: [["What is the capital of ", "?"]],
  P40: [["Who is ", "'s child?"]],
  P50: [["Who is the author of ", "?"]],
  P69: [["Where was ", " educated?"]],
  P106: [["What kind of work does ", " do?"]],
  P112: [["Who founded ", "?"]],
  P127: [["Who owns ", "?"]],
  P131: [["Where is ", " located?"]],
  P136: [["What type of music does ", " play?"]],
  P159: [
    ["Where is the headquarter of ", "?"],
    ["Where is ", " headquartered?"],
  ],
  P170: [
    ["Who was ", " created by?"],
    ["Who is the creator of ", "?"],
  ],
  P175: [["Who performed ", "?"]],
  P176: [["Which company is ", " produced by?"]],
  P264: [["What music label is ", " represented by?"]],
  P276: [["Where is ", " located?"]],
  P407: [["Which language was ", " written in?"]],
  P413: [["What position does ", " play?"]],
  P495: [["Which country was ", " created in?"]],
  P740: [["Where was ", " founded?"]],
  P800: [["What is ", " famous for?"]],
};

/** The relation is the row's, or in the file's name ("P17.test"); with it the entity is known. */
export const entityQuestions: FormatReader = {
  about: "EntityQuestions: question, answers (a list), relation, or files named P17.test.json",
  source: "https://github.com/princeton-nlp/EntityQuestions",
  fields: Object.keys(schema.shape),
  isLike: ({ question, answers, relation }, stem) =>
    question !== undefined &&
    answers !== undefined &&
    (/^P\d+/.test(`${relation}`) || (relation === undefined && relationIn(stem) !== undefined)),
  read(fields, number, stem) {
    const found = parsed(schema, fields);
    if (typeof found === "string") return found;
    const { id, question, answers } = found;
    const relation = found.relation ?? relationIn(stem);
    return questionOf(
      { id, question, answers, relation, entity: entityIn(question, relation) },
      number,
    );
  },
};

const relationIn = (stem: string): string | undefined => /^P\d+(?=[._]|$)/.exec(stem)?.[0];

function entityIn(question: string, relation: string | null | undefined): string | undefined {
  for (const [before, behind] of WORDINGS[relation ?? ""] ?? []) {
    const isWorded = question.startsWith(before) && question.endsWith(behind);
    const entity = question.slice(before.length, question.length - behind.length).trim();
    if (isWorded && entity !== "") return entity;
  }
  return undefined;
}
