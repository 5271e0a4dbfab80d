/** The questions of a world: one for each fact, and re-worded ones that leak test facts. */
import { randomStream } from "../../tensor/random.ts";
import type { WorldConfig } from "./config.ts";
import { questionText, type Writer } from "./documents.ts";
import type { Entity, Fact, Question, Relation, Split, World } from "./world.ts";

interface Setting {
  readonly config: WorldConfig;
  readonly entities: readonly Entity[];
  readonly relations: readonly Relation[];
  readonly facts: readonly Fact[];
  readonly writer: Writer;
}

/**
 * Each fact's question, in one of its set's wordings drawn at random; behind the training questions,
 * for `config.leakShare` of the test facts, one in another wording than the test asks.
 */
export function allQuestions(
  setting: Setting,
  splitOf: (entity: number) => Split,
): Record<Split, Question[]> {
  const { config, facts } = setting;
  const questionOf = questionMaker(setting);
  const questions: Record<Split, Question[]> = { qa: [], train: [], validation: [], test: [] };
  const leaked: Question[] = [];
  for (const fact of facts) {
    const split = splitOf(fact.entity);
    const { set } = setting.entities[fact.entity]!;
    const wordings = setting.relations[fact.relation]!.questions[set].length;
    const stream = randomStream({ seed: config.seed, purpose: "wording", row: fact.id });
    const wording = wordings === 1 ? 0 : stream.int(wordings);
    questions[split].push(questionOf(fact, { id: fact.id, split, wording }));
    if (split !== "test" || config.leakShare === 0) continue;
    const other = (wording + 1 + stream.int(wordings - 1)) % wordings;
    const leak = { id: facts.length + fact.id, split: "train", wording: other } as const;
    if (stream.uniform() < config.leakShare) leaked.push(questionOf(fact, leak));
  }
  questions.train.push(...leaked);
  return questions;
}

function questionMaker({ entities, relations, writer }: Setting) {
  return (fact: Fact, asked: { id: number; split: Split; wording: number }): Question => {
    const { id, split, wording } = asked;
    const entity = entities[fact.entity]!;
    const relation = relations[fact.relation]!;
    const { set } = entity;
    // A label that is not the truth stands alone: the truth is then marked wrong, as in real sets.
    const right = fact.label === fact.truth ? [fact.truth, ...fact.alsoTrue] : [fact.label];
    return {
      id,
      factId: fact.id,
      entity: entity.id,
      relation: relation.id,
      relationName: relation.name,
      split,
      set,
      prompt: writer.questionPrompt(fact, set, wording),
      promptText: questionText(relation.questions[set][wording]!, entity.name),
      gold: fact.label.forms[fact.goldForm]!,
      accepted: right.flatMap((answer) => answer.forms),
      answers: right.flatMap((answer) => writer.answerTokens(answer)),
      myth: fact.myth.forms[0]!,
      mythAnswers: writer.answerTokens(fact.myth),
      status: fact.status,
      knowable: fact.knowable,
      popularity: entity.popularity,
    };
  };
}

/** A question as plain text, with the fact that it asks for: two of one fact are duplicates. */
export interface QuestionRecord {
  readonly id: number;
  /** As a person would put it, without the frame of the prompt. */
  readonly text: string;
  /** Every accepted answer, the gold one first. */
  readonly answers: readonly string[];
  readonly factId: number;
  readonly entity: string;
}

/** The training and the test questions of a world, for studies of duplicates between them. */
export function questionRecords(world: Pick<World, "questions" | "entities">): {
  train: QuestionRecord[];
  test: QuestionRecord[];
} {
  const record = ({
    id,
    promptText,
    gold,
    accepted,
    factId,
    entity,
  }: Question): QuestionRecord => ({
    id,
    text: promptText.replace(/^Q : | A :$/g, ""),
    answers: [gold, ...accepted.filter((answer) => answer !== gold)],
    factId,
    entity: world.entities[entity]!.name,
  });
  return {
    train: world.questions("train").map(record),
    test: world.questions("test").map(record),
  };
}
