/** WebQuestions: the official JSON with lists in Lisp, Hugging Face's form, and the re-split one. */
import { z } from "zod";
import { type FormatReader, key, parsed, questionOf, text, texts } from "../fields.ts";

const schema = z.object({
  id: key,
  qId: key,
  utterance: text.nullish(),
  question: text.nullish(),
  qText: text.nullish(),
  targetValue: text.nullish(),
  answers: texts.nullish(),
  url: z.string().nullish(),
});

/** All answers together are the gold list. The entity is the last part of Freebase's address. */
export const webQuestions: FormatReader = {
  about: "WebQuestions: utterance, targetValue, url; or question (qText), answers, url",
  source: "https://github.com/percyliang/sempre",
  fields: Object.keys(schema.shape),
  isLike: (fields) =>
    ("utterance" in fields && "targetValue" in fields) ||
    ("qText" in fields && "answers" in fields) ||
    ("question" in fields &&
      "answers" in fields &&
      (/freebase/.test(`${fields.url}`) || /^wq[rs]\d+$/.test(`${fields.id}`))),
  read(fields, number) {
    const found = parsed(schema, fields);
    if (typeof found === "string") return found;
    const question = found.utterance ?? found.question ?? found.qText;
    if (question == null) return 'has neither "utterance" nor "question"';
    const answers = found.answers ?? listIn(found.targetValue ?? "");
    if (answers === undefined) return 'has a "targetValue" that is no list of descriptions';
    const id = found.id ?? found.qId;
    return questionOf({ id, question, answers, entity: entityIn(found.url) }, number);
  },
};

const STRING = String.raw`"((?:[^"\\]|\\.)*)"`;
const ITEM = new RegExp(String.raw`\s*\(description\s+(?:${STRING}|([^\s()"]+))\)`, "sy");

/** The descriptions in `(list (description "Jaxon Bieber") (description 1881))`. */
function listIn(lisp: string): string[] | undefined {
  const inner = /^\s*\(list(.*)\)\s*$/s.exec(lisp)?.[1];
  if (inner === undefined) return undefined;
  const answers: string[] = [];
  const item = new RegExp(ITEM);
  let at = 0;
  for (let found = item.exec(inner); found !== null; found = item.exec(inner)) {
    answers.push(found[1]?.replace(/\\(.)/gs, "$1") ?? found[2]!);
    at = item.lastIndex;
  }
  return inner.slice(at).trim() === "" ? answers : undefined;
}

function entityIn(url: string | null | undefined): string | undefined {
  return /\/en\/([^/]+)$/.exec(url ?? "")?.[1]?.replaceAll("_", " ");
}
