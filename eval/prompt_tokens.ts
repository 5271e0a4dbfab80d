/** Prompts and answers as token ids of a model at hand: what it reads, and where it stops. */

import { chatOf } from "../model/chat.ts";
import type { ModelConfig } from "../model/config.ts";
import { UserError } from "../model/errors.ts";
import { lineBreakTokens, stopTokensOf } from "../model/stop_tokens.ts";
import type { Tokenizer } from "../model/tokenizer.ts";
import {
  type PromptForm,
  type PromptSettings,
  promptMessages,
  promptText,
  readAnswer,
  requirePromptSettings,
  stopText,
} from "./prompt.ts";

export interface PromptTokens {
  readonly settings: PromptSettings;
  readonly tokenizer: Tokenizer;
  /** The first of them ends a given answer; none where a model names no token and the form no text. */
  readonly stopTokens: readonly number[];
  /** Token ids of a question's prompt. */
  prompt(question: string): number[];
  /** Token ids of a given answer as it follows that prompt, without a stop token. */
  answer(question: string, answer: string): number[];
  /** The words of sampled tokens, special ones left out. */
  words(tokens: readonly number[]): string;
  /** What of them is the answer. */
  answerText(tokens: readonly number[]): string;
}

/** "auto": chat where the tokenizer has a template, else qa. */
export function promptFormOf(form: PromptForm | "auto", tokenizer: Tokenizer): PromptForm {
  if (form !== "auto") return form;
  return chatOf(tokenizer) === undefined ? "qa" : "chat";
}

/** A UserError where the form needs a chat template and the folder has none. */
export function promptTokens(
  settings: PromptSettings,
  config: ModelConfig,
  tokenizer: Tokenizer,
): PromptTokens {
  requirePromptSettings(settings);
  const chat = chatOf(tokenizer);
  if (settings.form === "chat" && chat === undefined) {
    throw new UserError(
      "the model's folder has no chat template (chat_template.jinja, or chat_template in " +
        "tokenizer_config.json): use prompts of the form qa or raw",
    );
  }
  const variables = { enable_thinking: settings.think ?? false };
  const write = (question: string): string =>
    settings.form === "chat"
      ? chat!.render(promptMessages(settings, question), { variables })
      : promptText(settings, question);
  const bare = settings.form === "chat";
  const ends = stopTokensOf(config, tokenizer, bare ? chat : undefined);
  const lines = stopText(settings) === null ? [] : lineBreakTokens(tokenizer);
  const stops = new Set([...lines, ...ends]);
  return {
    settings,
    tokenizer,
    stopTokens: [...stops],
    prompt: (question) => withinVocabulary(encoded(write(question)), config),
    answer: (question, answer) =>
      withinVocabulary(continuation(tokenizer, write(question), answer), config),
    words: (tokens) => tokenizer.decode(tokens),
    answerText: (tokens) => readAnswer(settings, tokenizer.decode(tokens)),
  };

  /** With the tokenizer's own BOS where the template doesn't write one; never its EOS. */
  function encoded(text: string): number[] {
    const ids = tokenizer.encode(text, { bare });
    return !bare && ends.includes(ids.at(-1) ?? -1) && ids.length > 1 ? ids.slice(0, -1) : ids;
  }
}

/** How many letters of a prompt's end decide, at most, how the text behind it is cut into tokens. */
const TAIL = 16;

/**
 * The ids that `answer` has behind `prompt`, a space between them unless the prompt ends in white
 * space: encoded together with the prompt's last words, whose ids are then taken off. Where these
 * join with the answer's first ones, the answer is encoded alone.
 */
function continuation(tokenizer: Tokenizer, prompt: string, answer: string): number[] {
  const text = /\s$/.test(prompt) ? answer : ` ${answer}`;
  const tail = prompt.slice(prompt.slice(0, -TAIL).search(/\s\S*$/) + 1);
  const before = tokenizer.encode(tail, { bare: true });
  const all = tokenizer.encode(tail + text, { bare: true });
  const splits = before.every((id, i) => all[i] === id);
  return splits ? all.slice(before.length) : tokenizer.encode(text, { bare: true });
}

function withinVocabulary(ids: number[], { vocab_size }: ModelConfig): number[] {
  const outside = ids.find((id) => id >= vocab_size);
  if (outside === undefined) return ids;
  throw new UserError(
    `tokenizer.json gives token ${outside}, but config.json has vocab_size ${vocab_size}: ` +
      "do they belong to one model?",
  );
}
