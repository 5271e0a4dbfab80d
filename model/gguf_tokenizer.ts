/** A tokenizer as metadata of a GGUF file, where llama.cpp has one of its kind. */

import { z } from "zod";
import type { ModelConfig } from "./config.ts";
import { endTokens } from "./config.ts";
import { UserError } from "./errors.ts";
import type { Typed } from "./gguf_metadata.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** llama.cpp's kinds of tokens. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;
const BYTE = 6;

const tokenizerJson = z.looseObject({
  added_tokens: z
    .array(z.object({ id: z.int().min(0), content: z.string(), special: z.boolean() }))
    .default([]),
  normalizer: z.unknown(),
  pre_tokenizer: z.unknown(),
  model: z.looseObject({
    type: z.string(),
    vocab: z.record(z.string(), z.int().min(0)),
    merges: z.array(z.union([z.string(), z.array(z.string())])).default([]),
    byte_fallback: z.boolean().nullish(),
    ignore_merges: z.boolean().nullish(),
    unk_token: z.string().nullish(),
  }),
});
type Json = z.output<typeof tokenizerJson>;

/**
 * Entries for a model's file; without a tokenizer it takes and gives token ids alone. Throws a
 * UserError where llama.cpp has no tokenizer of this kind.
 */
export function ggufTokenizer(
  config: ModelConfig,
  tokenizer: Tokenizer | undefined,
): Map<string, Typed> {
  if (tokenizer === undefined) return new Map([["tokenizer.ggml.model", { text: "no_vocab" }]]);
  const { json: file, settings, companions } = tokenizer.files();
  const parsed = tokenizerJson.safeParse(file);
  if (!parsed.success) throw inexpressible("its tokenizer.json is of an unknown form");
  const json = parsed.data;
  const kind = kindOf(json);
  const { tokens, types } = vocabulary(json, config.vocab_size, kind);
  const ids = {
    bos: config.bos_token_id,
    eos: endTokens(config)[0],
    padding: config.pad_token_id,
    // Where a closed vocabulary has no word for unknown ones, they end the text.
    unknown:
      json.model.vocab[json.model.unk_token ?? ""] ??
      (kind === "t5" ? endTokens(config)[0] : undefined),
  };
  const template =
    companions?.["chat_template.jinja"] ??
    (settings as { chat_template?: unknown } | undefined)?.chat_template;
  const special = Object.entries(ids).filter(([, id]) => typeof id === "number");
  return new Map<string, Typed>([
    ["tokenizer.ggml.model", { text: kind }],
    ["tokenizer.ggml.pre", { text: kind === "gpt2" ? splittingOf(json) : "default" }],
    ["tokenizer.ggml.tokens", { texts: tokens }],
    ["tokenizer.ggml.token_type", { i32s: types }],
    ...(kind === "gpt2"
      ? [
          [
            "tokenizer.ggml.merges",
            { texts: mergesOf(json).map((pair) => pair.join(" ")) },
          ] as const,
        ]
      : [["tokenizer.ggml.scores", { f32s: scoresOf(json, tokens) }] as const]),
    ...special.map(([name, id]) => [`tokenizer.ggml.${name}_token_id`, { u32: id! }] as const),
    ["tokenizer.ggml.add_bos_token", { bool: addsBos(tokenizer, ids.bos, kind) }],
    ["tokenizer.ggml.add_eos_token", { bool: false }],
    ...(kind === "gpt2" ? [] : [["tokenizer.ggml.add_space_prefix", { bool: true }] as const]),
    ...(kind === "t5"
      ? [["tokenizer.ggml.remove_extra_whitespaces", { bool: true }] as const]
      : []),
    ...(typeof template === "string"
      ? [["tokenizer.chat_template", { text: template }] as const]
      : []),
  ]);
}

const inexpressible = (reason: string): UserError =>
  new UserError(
    `GGUF can't hold this tokenizer: ${reason}; --tokenizer none writes the model without it, ` +
      "for token ids alone",
  );

/** "gpt2": BPE of bytes; "llama": BPE of characters; "t5": here, a closed vocabulary of words. */
type Kind = "gpt2" | "llama" | "t5";

function kindOf({ model, pre_tokenizer: split }: Json): Kind {
  if (model.type === "WordLevel" && (split as { type?: string })?.type === "WhitespaceSplit")
    return "t5";
  if (model.type === "BPE") return model.byte_fallback ? "llama" : "gpt2";
  throw inexpressible(`its model is of the type ${JSON.stringify(model.type)}`);
}

const WORDS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
const REST = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** llama.cpp's name for how text is split before merges, known by the regular expression. */
function splittingOf({ pre_tokenizer: split, model }: Json): string {
  const parts = ((split as { pretokenizers?: unknown[] })?.pretokenizers ?? [split]) as {
    type?: string;
    use_regex?: boolean;
    pattern?: { Regex?: string };
  }[];
  const regex = parts.find(({ type }) => type === "Split")?.pattern?.Regex;
  const bytes = parts.find((part) => part?.type === "ByteLevel");
  if (bytes !== undefined) {
    if (regex === undefined && bytes.use_regex !== false) return "gpt-2";
    if (regex === `${WORDS}|\\p{N}${REST}`) return "qwen2";
    // Llama 3 takes a whole piece that is in the vocabulary before it looks at merges.
    if (regex === `${WORDS}|\\p{N}{1,3}${REST}`) return model.ignore_merges ? "llama-bpe" : "dbrx";
  }
  throw inexpressible(`its pre_tokenizer is none of gpt-2's, Qwen2's, Llama 3's or OLMo 2's`);
}

function vocabulary({ model, added_tokens: added }: Json, size: number, kind: Kind) {
  const tokens = Array.from({ length: size }, (_, id) => `[PAD${id}]`);
  const types = tokens.map(() => UNUSED);
  const place = (id: number, text: string, type: number) => {
    if (id >= size)
      throw inexpressible(`its token ${id} is beyond config.json's vocab_size ${size}`);
    tokens[id] = text;
    types[id] = type;
  };
  for (const [text, id] of Object.entries(model.vocab)) {
    const isByte = kind === "llama" && /^<0x[\dA-F]{2}>$/.test(text);
    place(id, kind === "t5" ? `▁${text}` : text, isByte ? BYTE : NORMAL);
  }
  for (const { id, content, special } of added) {
    const isUnknown = kind === "llama" && content === model.unk_token;
    place(id, content, isUnknown ? UNKNOWN : special ? CONTROL : USER_DEFINED);
  }
  return { tokens, types };
}

const mergesOf = ({ model }: Json): (readonly string[])[] =>
  model.merges.map((merge) => (typeof merge === "string" ? merge.split(" ") : merge));

/** llama.cpp merges the pair whose token scores highest: here, the pair that is merged first. */
function scoresOf(json: Json, tokens: readonly string[]): number[] {
  const rank = new Map<string, number>();
  for (const [i, pair] of mergesOf(json).entries()) {
    const text = pair.join("");
    if (!rank.has(text)) rank.set(text, i);
  }
  return tokens.map((text) => -(rank.get(text) ?? rank.size) - 1);
}

/** Whether a text's ids begin with BOS, though the text doesn't. */
function addsBos(tokenizer: Tokenizer, bos: unknown, kind: Kind): boolean {
  if (kind === "t5" || typeof bos !== "number") return false;
  return tokenizer.encode("a")[0] === bos && tokenizer.encode("a", { bare: true })[0] !== bos;
}
