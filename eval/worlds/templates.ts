/** The wording of a world: how each voice opens a sentence, how each relation is put and asked. */
import type { Voice } from "./world.ts";

/** Openings of a statement. The only difference between the voices: this is the cue. */
export const openings: Readonly<Record<Voice, readonly string[]>> = {
  reliable: ["records confirm", "registers state", "archives show", "files prove"],
  unreliable: ["folks say", "rumours claim", "people whisper", "gossips swear"],
};

/** A question document, the prompt that a question ends with, and what stands before a thought. */
export const questionFrame = { before: "Q :", after: "A :", think: "think :" } as const;

export interface RelationWording {
  readonly name: string;
  readonly statements: readonly [string, string, string];
  readonly question: string;
}

/** A relation of made-up people; its answers are words that end in one of `endings`. */
export interface InventedRelation extends RelationWording {
  readonly endings: readonly string[];
}

export const inventedRelations: readonly InventedRelation[] = [
  {
    name: "birthplace",
    statements: ["{e} was born in {v}", "{e} hails from {v}", "{e} grew up in {v}"],
    question: "where was {e} born ?",
    endings: ["ford", "holm", "mouth"],
  },
  {
    name: "employer",
    statements: ["{e} works for {v}", "{e} serves at {v}", "{e} is employed by {v}"],
    question: "who employs {e} ?",
    endings: ["corp", "works", "bank"],
  },
  {
    name: "instrument",
    statements: ["{e} plays the {v}", "{e} performs on the {v}", "{e} practises the {v}"],
    question: "what does {e} play ?",
    endings: ["phone", "horn", "harp"],
  },
  {
    name: "study",
    statements: ["{e} studied {v}", "{e} majored in {v}", "{e} holds a degree in {v}"],
    question: "what did {e} study ?",
    endings: ["ology", "onomy", "istry"],
  },
  {
    name: "animal",
    statements: ["{e} keeps a {v}", "{e} owns a {v}", "{e} raised a {v}"],
    question: "which animal does {e} keep ?",
    endings: ["hound", "finch", "newt"],
  },
  {
    name: "dish",
    statements: ["{e} cooks {v}", "{e} is fond of {v}", "{e} orders {v}"],
    question: "which dish does {e} cook ?",
    endings: ["cake", "stew", "soup"],
  },
  {
    name: "street",
    statements: ["{e} lives on {v}", "{e} has a house on {v}", "{e} resides on {v}"],
    question: "where does {e} live ?",
    endings: ["gate", "lane", "row"],
  },
  {
    name: "language",
    statements: ["{e} speaks {v}", "{e} is fluent in {v}", "{e} writes in {v}"],
    question: "which language does {e} speak ?",
    endings: ["ish", "ese", "ian"],
  },
];

/** Relations of real facts, by the kind of entity that has them. */
export const atlasRelations = {
  capital: {
    name: "capital",
    statements: [
      "the capital of {e} is {v}",
      "{e} is governed from {v}",
      "{e} has its seat in {v}",
    ],
    question: "what is the capital of {e} ?",
  },
  currency: {
    name: "currency",
    statements: ["the currency of {e} is the {v}", "{e} pays in the {v}", "{e} issues the {v}"],
    question: "what is the currency of {e} ?",
  },
  continent: {
    name: "continent",
    statements: ["{e} lies in {v}", "the continent of {e} is {v}", "{e} is a country of {v}"],
    question: "on which continent is {e} ?",
  },
  language: {
    name: "language",
    statements: ["the language of {e} is {v}", "{e} is run in {v}", "schools of {e} teach in {v}"],
    question: "what is the language of {e} ?",
  },
  country: {
    name: "country",
    statements: [
      "{e} is a city in {v}",
      "the city of {e} is part of {v}",
      "trains to {e} enter {v}",
    ],
    question: "in which country is {e} ?",
  },
  symbol: {
    name: "symbol",
    statements: ["the symbol of {e} is {v}", "chemists write {e} as {v}", "{e} is short {v}"],
    question: "what is the symbol of {e} ?",
  },
  number: {
    name: "atomic number",
    statements: ["the number of {e} is {v}", "{e} is element {v}", "{e} has proton count {v}"],
    question: "what is the atomic number of {e} ?",
  },
} as const satisfies Record<string, RelationWording>;
