/** Which tokens end an answer: what a model's folder says in up to three files, and line breaks. */

import { z } from "zod";
import { type Chat, textSettings } from "./chat.ts";
import { endTokens, type ModelConfig } from "./config.ts";
import { UserError } from "./errors.ts";
import type { Tokenizer } from "./tokenizer.ts";

const generation = z.looseObject({
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
});

/**
 * Every token that ends a text, the usual one first: the one that the chat template writes behind an
 * answer, `eos_token_id` of generation_config.json and of config.json, `eos_token` of
 * tokenizer_config.json. Models name some of them in one file only: a chat model's config.json often
 * has the base model's alone, and an answer would then run on.
 */
export function stopTokensOf(
  config: ModelConfig,
  tokenizer: Tokenizer,
  chat: Pick<Chat, "turnEnd"> | undefined,
): number[] {
  const { eos_token } = textSettings(tokenizer);
  const named = eos_token == null ? undefined : tokenizer.idOf(eos_token);
  const all = [chat?.turnEnd, ...generationStops(tokenizer), ...endTokens(config), named];
  return [...new Set(all.filter((id) => id !== undefined))];
}

function generationStops(tokenizer: Tokenizer): number[] {
  const text = tokenizer.files().companions?.["generation_config.json"];
  if (text === undefined) return [];
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new UserError(`generation_config.json is not JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
  const parsed = generation.safeParse(json);
  if (!parsed.success) {
    throw new UserError("generation_config.json: eos_token_id is neither an id nor a list of ids");
  }
  return [parsed.data.eos_token_id ?? []].flat();
}

/**
 * Tokens whose text holds a line break: they end an answer of one line. The one that is a line break
 * and nothing else comes first, if there is one.
 */
export function lineBreakTokens(tokenizer: Tokenizer): number[] {
  const ids: number[] = [];
  for (let id = 0; id < tokenizer.vocabularySize; id++) {
    if (tokenizer.specialIds.has(id)) continue;
    const text = tokenizer.decode([id]);
    if (text === "\n") ids.unshift(id);
    else if (text.includes("\n")) ids.push(id);
  }
  return ids;
}
