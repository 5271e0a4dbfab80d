/** How a question is put to a model, and what of its words is the answer: for any model, as text. */

import { type Message, withoutThought } from "../model/chat.ts";
import { UserError } from "../model/errors.ts";

/** chat: turns of the model's own template. qa: "Q: … A:", one line of answer. raw: the text alone. */
export const promptForms = ["chat", "qa", "raw"] as const;
export type PromptForm = (typeof promptForms)[number];

export interface PromptSettings {
  readonly form: PromptForm;
  /** The words around {question}; null: the form's own. */
  readonly text?: string | null;
  /** A system message, in chat. */
  readonly system?: string | null;
  /** Lets the model think before it answers: chat templates get enable_thinking, others words. */
  readonly think?: boolean;
}

const SLOT = "{question}";

const WORDS: Readonly<Record<PromptForm, string>> = {
  chat: `Answer with the answer alone, in a few words.\n\n${SLOT}`,
  qa: `Q: ${SLOT}\nA:`,
  raw: SLOT,
};

const FINAL = "Answer:";
const THINKING: Readonly<Record<PromptForm, string>> = {
  chat:
    "First recall what you know about the question. Then give the answer alone, in a few words, on " +
    `a last line that begins with "${FINAL}".\n\n${SLOT}`,
  qa: `Q: ${SLOT}\nFirst what is known, then on a line of its own "${FINAL}" and the answer.\n`,
  raw: SLOT,
};

/** Checks the settings once, so that no question fails on them. */
export function requirePromptSettings({ form, text, system }: PromptSettings): void {
  if (text != null && !text.includes(SLOT)) {
    throw new UserError(`the prompt's text has no ${SLOT}: "${text.slice(0, 60)}"`);
  }
  if (system != null && form !== "chat") {
    throw new UserError(`a system message needs prompts of the form chat, not ${form}`);
  }
}

/** The text of a prompt; in chat, that of the user's message. */
export const promptText = ({ form, text, think }: PromptSettings, question: string): string =>
  (text ?? (think ? THINKING : WORDS)[form]).split(SLOT).join(question);

export const promptMessages = (settings: PromptSettings, question: string): Message[] => [
  ...(settings.system == null ? [] : [{ role: "system" as const, content: settings.system }]),
  { role: "user", content: promptText(settings, question) },
];

/** Where an answer of this form ends before the model's own stop token; null: nowhere. */
export const stopText = ({ form, think }: PromptSettings): string | null =>
  form === "qa" && !think ? "\n" : null;

/**
 * What of the model's words is the answer: without a <think> block, up to the text that ends it, and
 * where it was asked to think the rest of the line behind the last "Answer:" (nothing where none
 * came).
 */
export function readAnswer(settings: PromptSettings, words: string): string {
  const said = settings.form === "chat" ? withoutThought(words) : words;
  const stop = stopText(settings);
  const cut = stop === null ? said : said.replace(/^\s+/, "").split(stop)[0]!;
  if (!settings.think || settings.form === "raw") return cut.trim();
  const at = cut.lastIndexOf(FINAL);
  return at < 0
    ? ""
    : cut
        .slice(at + FINAL.length)
        .trim()
        .split("\n")[0]!
        .trim();
}
