/** Chat templates: messages to token ids, by the Jinja template that a model's folder brings. */

import { Template } from "@huggingface/jinja";
import { z } from "zod";
import { UserError } from "./errors.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

export interface ChatOptions {
  /** Ends in the words that open an answer; default true. */
  readonly generationPrompt?: boolean;
  /** Further variables of the template: `enable_thinking` of Qwen3. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

export interface Chat {
  /** The text of a conversation, special tokens among it. Throws a UserError if the template does. */
  render(messages: readonly Message[], options?: ChatOptions): string;
  /**
   * Its token ids: special tokens as theirs, none added, for the template writes its own BOS. An
   * answer's ids are put behind those of the prompt and never made of both texts at once, so that
   * which tokens are the answer's is a matter of position.
   */
  encode(messages: readonly Message[], options?: ChatOptions): number[];
  /** The token that ends an answer, if the template writes one behind it. */
  readonly turnEnd: number | undefined;
}

const token = z.union([z.string(), z.object({ content: z.string() }).transform((t) => t.content)]);
const named = z.object({ name: z.string(), template: z.string() });
/** What tokenizer_config.json says of chats; keys that are not listed pass through. */
const settingsSchema = z.looseObject({
  bos_token: token.nullish(),
  eos_token: token.nullish(),
  chat_template: z.union([z.string(), z.array(named)]).nullish(),
});

/** tokenizer_config.json as far as it is about text; {} where there is none. */
export function textSettings(tokenizer: Tokenizer): z.output<typeof settingsSchema> {
  const parsed = settingsSchema.safeParse(tokenizer.files().settings ?? {});
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw new UserError(`tokenizer_config.json: ${path.join(".")}: ${message}`);
}

/**
 * The chat of a tokenizer's folder: chat_template.jinja, or `chat_template` of tokenizer_config.json
 * (of several the one named "default"). undefined where it has none. A UserError where the template
 * can't be parsed.
 */
export function chatOf(tokenizer: Tokenizer): Chat | undefined {
  const { chat_template: stored } = textSettings(tokenizer);
  const own = tokenizer.files().companions?.["chat_template.jinja"];
  const listed = typeof stored === "string" ? stored : stored?.find(isDefault)?.template;
  const text = own ?? listed;
  return text === undefined ? undefined : chatFrom(text, tokenizer);
}

const isDefault = ({ name }: { name: string }): boolean => name === "default";

/** A chat from the text of a template. */
export function chatFrom(text: string, tokenizer: Tokenizer): Chat {
  const { bos_token, eos_token } = textSettings(tokenizer);
  let template: Template;
  try {
    template = new Template(text);
  } catch (cause) {
    throw new UserError(`the chat template can't be parsed: ${(cause as Error).message}`, {
      cause,
    });
  }
  const render: Chat["render"] = (messages, { generationPrompt = true, variables = {} } = {}) => {
    try {
      return template.render({
        messages,
        add_generation_prompt: generationPrompt,
        bos_token: bos_token ?? "",
        eos_token: eos_token ?? "",
        ...variables,
      });
    } catch (cause) {
      const roles = messages.map(({ role }) => role).join(", ");
      throw new UserError(
        `the chat template refuses the messages (${roles}): ${(cause as Error).message}`,
        { cause },
      );
    }
  };
  const encode: Chat["encode"] = (messages, options) =>
    tokenizer.encode(render(messages, options), { bare: true });
  return { render, encode, turnEnd: turnEndOf(render, tokenizer) };
}

/** A word that no template holds. */
const MARK = "anamnesis-marks-the-answer";

/** The first special token behind an answer in a finished conversation. */
function turnEndOf(render: Chat["render"], tokenizer: Tokenizer): number | undefined {
  const messages: Message[] = [
    { role: "user", content: "?" },
    { role: "assistant", content: MARK },
  ];
  const text = render(messages, { generationPrompt: false });
  const at = text.lastIndexOf(MARK);
  if (at < 0) return undefined;
  const behind = tokenizer.encode(text.slice(at + MARK.length), { bare: true });
  return behind.find((id) => tokenizer.specialIds.has(id));
}

/** The answer behind a thought: what follows the last `</think>`; nothing where one never ends. */
export function withoutThought(text: string): string {
  const end = text.lastIndexOf("</think>");
  if (end >= 0) return text.slice(end + "</think>".length).trim();
  return text.includes("<think>") ? "" : text.trim();
}
