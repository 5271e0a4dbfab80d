/** Text to token ids and back: tokenizer.json files, and closed vocabularies of whole words. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer as HuggingFace } from "@huggingface/tokenizers";
import { z } from "zod";
import { UserError } from "./errors.ts";
import { readJson, readText } from "./files.ts";

export interface Tokenizer {
  readonly vocabularySize: number;
  /**
   * Token ids of a text, with the special tokens (BOS…) that the tokenizer's own rule adds unless
   * `bare`. Special tokens that stand in the text become their ids.
   */
  encode(text: string, options?: { bare?: boolean }): number[];
  /** The text of token ids; special tokens are left out. */
  decode(ids: ArrayLike<number>): string;
  /** Id of one token as it stands in the vocabulary. */
  idOf(token: string): number | undefined;
  /** Ids of the tokens that decode leaves out. */
  readonly specialIds: ReadonlySet<number>;
  /** What such a token is called in texts, "<|im_end|>"; undefined for every other. */
  specialText(id: number): string | undefined;
  /** What a model folder keeps of it. */
  files(): TokenizerFiles;
}

/** The contents of tokenizer.json and tokenizer_config.json. */
export interface TokenizerFiles {
  readonly json: unknown;
  readonly settings?: unknown;
  /** Texts of companions that a folder may have, by name: kept with the model as they are. */
  readonly companions?: Readonly<Record<string, string>>;
}

/** How turns are written, and which tokens end a text. */
const COMPANIONS = ["chat_template.jinja", "generation_config.json", "special_tokens_map.json"];

/** The tokenizer of a model folder. Throws a UserError where the file is missing or not one. */
export function loadTokenizer(folder: string): Tokenizer {
  const path = join(folder, "tokenizer.json");
  const settings = join(folder, "tokenizer_config.json");
  const json = readJson(path);
  const found = COMPANIONS.filter((name) => existsSync(join(folder, name)));
  const texts = found.map((name) => [name, readText(join(folder, name))]);
  return tokenizerOf(
    {
      json,
      ...(existsSync(settings) && { settings: readJson(settings) }),
      ...(found.length > 0 && { companions: Object.fromEntries(texts) }),
    },
    path,
  );
}

/** A tokenizer from the contents of its files; `name` stands for the first in errors. */
export function tokenizerOf(files: TokenizerFiles, name = "tokenizer.json"): Tokenizer {
  const { json, settings = {} } = files;
  const words = closedVocabulary.safeParse(json);
  if (words.success) {
    const { companions } = files;
    return fromClosedVocabulary(words.data, name, companions && { companions });
  }
  let tokenizer: HuggingFace;
  try {
    tokenizer = new HuggingFace(json as object, settings as object);
  } catch (cause) {
    throw new UserError(`${name} is not a tokenizer: ${(cause as Error).message}`, { cause });
  }
  const special = specialTokensOf(json);
  return {
    vocabularySize: tokenizer.get_vocab(true).size,
    encode: (text, { bare = false } = {}) =>
      tokenizer.encode(text, { add_special_tokens: !bare }).ids,
    decode: (ids) => tokenizer.decode(Array.from(ids), { skip_special_tokens: true }),
    idOf: (token) => tokenizer.token_to_id(token),
    specialIds: new Set(special.keys()),
    specialText: (id) => special.get(id),
    files: () => files,
  };
}

const addedTokens = z.object({
  added_tokens: z
    .array(z.object({ id: z.int(), content: z.string(), special: z.boolean().default(false) }))
    .default([]),
});

const specialTokensOf = (json: unknown): ReadonlyMap<number, string> => {
  const { added_tokens } = addedTokens.parse(json);
  return new Map(
    added_tokens.filter(({ special }) => special).map(({ id, content }) => [id, content]),
  );
};

export interface WordOptions {
  /** Words such as "<eos>" that decode leaves out. */
  readonly special?: readonly string[];
  readonly companions?: Readonly<Record<string, string>>;
}

/**
 * One token a word: the id is the word's place in `words`. encode splits on spaces and throws on a
 * word that isn't there; decode joins with single spaces.
 */
export function wordTokenizer(words: readonly string[], options: WordOptions = {}): Tokenizer {
  const ids = new Map(words.map((word, id) => [word, id]));
  const bad = words.find((word, id) => word === "" || /\s/.test(word) || ids.get(word) !== id);
  if (bad !== undefined) {
    throw new RangeError(`wordTokenizer: "${bad}" is empty, holds a space or occurs twice`);
  }
  const special = new Set(options.special ?? []);
  const unknown = [...special].find((word) => !ids.has(word));
  if (unknown !== undefined) {
    throw new RangeError(`wordTokenizer: special word "${unknown}" is not in the vocabulary`);
  }
  return {
    vocabularySize: words.length,
    encode: (text) =>
      text
        .split(/\s+/)
        .filter(Boolean)
        .map((word) => idOfWord(ids, word)),
    decode: (tokens) =>
      Array.from(tokens, (id) => wordOf(words, id))
        .filter((word) => !special.has(word))
        .join(" "),
    idOf: (word) => ids.get(word),
    specialIds: new Set([...special].map((word) => ids.get(word)!)),
    specialText: (id) => (special.has(words[id] ?? "") ? words[id] : undefined),
    files: () => ({
      ...wordTokenizerFiles(words, special),
      ...(options.companions && { companions: options.companions }),
    }),
  };
}

function idOfWord(ids: ReadonlyMap<string, number>, word: string): number {
  const id = ids.get(word);
  if (id !== undefined) return id;
  throw new UserError(`"${word}" is not one of the ${ids.size} words that this model knows`);
}

function wordOf(words: readonly string[], id: number): string {
  const word = words[id];
  if (word !== undefined) return word;
  throw new RangeError(`tokenizer: id ${id} is outside of [0, ${words.length})`);
}

/** Hugging Face's WordLevel model behind a split on white space: other tools read it back. */
function wordTokenizerFiles(
  words: readonly string[],
  special: ReadonlySet<string>,
): TokenizerFiles {
  const added = words.flatMap((content, id) => {
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    return special.has(content) ? [{ id, content, ...flags, special: true }] : [];
  });
  const json = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: "WhitespaceSplit" },
    post_processor: null,
    decoder: null,
    // No word stands for unknown ones: the vocabulary is closed.
    model: {
      type: "WordLevel",
      vocab: Object.fromEntries(words.map((word, id) => [word, id])),
      unk_token: "<unk>",
    },
  };
  // Otherwise other tools take away the space before a full stop.
  const settings = {
    tokenizer_class: "PreTrainedTokenizerFast",
    clean_up_tokenization_spaces: false,
  };
  return { json, settings };
}

/** The files that wordTokenizerFiles writes; others go to Hugging Face's library. */
const closedVocabulary = z.object({
  added_tokens: z.array(z.object({ content: z.string() })).default([]),
  normalizer: z.null(),
  pre_tokenizer: z.object({ type: z.literal("WhitespaceSplit") }),
  post_processor: z.null(),
  decoder: z.null(),
  model: z.object({
    type: z.literal("WordLevel"),
    vocab: z.record(z.string(), z.int()).refine((vocab) => !Object.hasOwn(vocab, "<unk>")),
  }),
});

function fromClosedVocabulary(
  { model, added_tokens }: z.output<typeof closedVocabulary>,
  name: string,
  options: Pick<WordOptions, "companions"> = {},
): Tokenizer {
  const words: string[] = [];
  for (const [word, id] of Object.entries(model.vocab)) words[id] = word;
  if (words.length !== Object.keys(model.vocab).length || words.includes(undefined as never)) {
    throw new UserError(`${name}: the ids of its words are not 0, 1, 2, … without gaps`);
  }
  try {
    const special = added_tokens.map(({ content }) => content);
    return wordTokenizer(words, { ...options, special });
  } catch (cause) {
    throw new UserError(`${name}: ${(cause as Error).message}`, { cause });
  }
}
