/** The rows of an export: a question in the form that each engine's data sets have. */

import type { FileQuestion } from "../../eval/data_task.ts";
import { type PromptSettings, promptMessages, promptText, stopText } from "../../eval/prompt.ts";
import type { PromptTokens } from "../../eval/prompt_tokens.ts";
import { chatOf, type Message } from "../../model/chat.ts";

export type Row = Readonly<Record<string, unknown>>;

/** How one engine wants a question. `index` counts the rows of a split. */
export type RowOf = (question: FileQuestion, index: number) => Row;

/** What a row needs to know of the prompts of a run. */
export interface RowForm {
  readonly prompts: PromptTokens;
  /** Where the questions come from: a data set's name. */
  readonly source: string;
  /** Text of the BOS token, where the tokenizer puts one before prompts that are no chat. */
  readonly opening: string;
}

/** Lone surrogates are no text in UTF-8, and Python's readers refuse them. */
const text = (words: string): string => words.toWellFormed();

const messagesOf = (settings: PromptSettings, question: FileQuestion): Message[] =>
  promptMessages(settings, question.promptText).map(({ role, content }) => {
    return { role, content: text(content) };
  });

/** verl puts each prompt through a chat template; that of other forms is the bare content. */
export const verlRow =
  ({ prompts: { settings }, source }: RowForm): RowOf =>
  (question, index) => ({
    data_source: source,
    prompt: messagesOf(settings, question),
    ability: "fact",
    reward_model: { style: "rule", ground_truth: text(question.gold) },
    extra_info: {
      ...{ split: question.split, index, question: text(question.promptText) },
      ...{ aliases: question.accepted.map(text), id: text(question.name) },
      ...{ entity: question.entity, relation: text(question.relationName) },
    },
  });

/** What a reward function reads of a row, under TRL's usual name for the gold answer. */
const judged = (question: FileQuestion) => ({
  ...{ question: text(question.promptText), solution: text(question.gold) },
  ...{ aliases: question.accepted.map(text), id: text(question.name), entity: question.entity },
});

/** A prompt as messages, which TRL puts through the template; as text where the form is no chat. */
const trlPrompt = ({ prompts: { settings } }: RowForm, question: FileQuestion) =>
  settings.form === "chat"
    ? messagesOf(settings, question)
    : text(promptText(settings, question.promptText));

export const trlRow =
  (form: RowForm): RowOf =>
  (question) => ({ prompt: trlPrompt(form, question), ...judged(question) });

/** An answer as it stands behind a prompt of the form. */
function trlAnswer({ prompts: { settings } }: RowForm, question: FileQuestion, words: string) {
  const answer = text(words);
  if (settings.form === "chat") return [{ role: "assistant", content: answer }];
  const space = /\s$/.test(promptText(settings, question.promptText)) ? "" : " ";
  return space + answer + (stopText(settings) ?? "");
}

/** Variables of the template, where one row's answer is to stand in it. */
const variables = ({ prompts: { settings } }: RowForm) =>
  settings.form === "chat"
    ? { chat_template_kwargs: { enable_thinking: settings.think ?? false } }
    : {};

/** A prompt with an answer to imitate. */
export const imitationRow = (form: RowForm, question: FileQuestion, answer: string): Row => ({
  prompt: trlPrompt(form, question),
  completion: trlAnswer(form, question, answer),
  ...variables(form),
});

/** A prompt with the gold answer and a wrong one. */
export const preferenceRow = (form: RowForm, question: FileQuestion, wrong: string): Row => ({
  prompt: trlPrompt(form, question),
  chosen: trlAnswer(form, question, question.gold),
  rejected: trlAnswer(form, question, wrong),
  ...variables(form),
});

/** OpenRLHF is given a prompt's whole text; the label goes to the reward server as it is. */
export function openrlhfRow({ prompts, source, opening }: RowForm): RowOf {
  const { settings, tokenizer } = prompts;
  const chat = settings.form === "chat" ? chatOf(tokenizer) : undefined;
  const template = { variables: { enable_thinking: settings.think ?? false } };
  const write = (question: FileQuestion): string =>
    chat === undefined
      ? opening + promptText(settings, question.promptText)
      : chat.render(promptMessages(settings, question.promptText), template);
  return (question, index) => ({
    input: text(write(question)),
    label: JSON.stringify({
      ...{ question: text(question.promptText), gold: text(question.gold) },
      accepted: question.accepted.map(text),
    }),
    datasource: source,
    ...{ split: question.split, index, fact: text(question.name), entity: question.entity },
  });
}
