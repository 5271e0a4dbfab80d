/** The formats of question sets by name, and which of them a record is in. */
import type { Fields, FormatReader } from "./fields.ts";
import { entityQuestions } from "./formats/entity_questions.ts";
import { nqOpen } from "./formats/nq_open.ts";
import { plain } from "./formats/plain.ts";
import { popqa } from "./formats/popqa.ts";
import { simpleqa } from "./formats/simpleqa.ts";
import { triviaqa } from "./formats/triviaqa.ts";
import { webQuestions } from "./formats/webquestions.ts";

/** In the order in which they are tried: the plain form takes what is none of the others. */
export const formatReaders = {
  popqa,
  triviaqa,
  simpleqa,
  webquestions: webQuestions,
  "entity-questions": entityQuestions,
  "nq-open": nqOpen,
  plain,
} as const satisfies Readonly<Record<string, FormatReader>>;

export type Format = keyof typeof formatReaders;
export const formats = Object.keys(formatReaders) as readonly Format[];

/** Names of all fields that some format reads. */
export const knownFields: ReadonlySet<string> = new Set(
  Object.values(formatReaders).flatMap(({ fields }) => fields),
);

/** The format of a record, or undefined. `stem`: the file's name without endings. */
export const formatOf = (fields: Fields, stem: string): Format | undefined =>
  formats.find((format) => formatReaders[format].isLike(fields, stem));
