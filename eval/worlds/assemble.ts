/** Makes a world out of bare facts: splits, decided facts, vocabulary, documents, questions. */
import { wordTokenizer } from "../../model/tokenizer.ts";
import { randomStream } from "../../tensor/random.ts";
import type { WorldConfig } from "./config.ts";
import { documentWriter, openingsInUse, questionText } from "./documents.ts";
import { decideFacts } from "./facts.ts";
import { assignSets, setsInUse, sharesOf, wordingsOf } from "./question_sets.ts";
import { allQuestions } from "./questions.ts";
import { splitEntities } from "./split.ts";
import { questionFrame } from "./templates.ts";
import { BOS, EOS, PAD, vocabularyOf } from "./vocabulary.ts";
import {
  type Entity,
  type FactBase,
  type Question,
  type QuestionSet,
  type Relation,
  type Split,
  splitNames,
  type World,
} from "./world.ts";

/** The world of `config` over given facts. Equal arguments give the same world, bit for bit. */
export function worldFrom(base: FactBase, config: WorldConfig): World {
  const { seed } = config;
  const sets = setsInUse(config);
  const assigned = assignSets(base.entities, config);
  const entities: Entity[] = assigned.map((entity, id) => ({ id, ...entity }));
  const relations: Relation[] = base.relations.map(({ question, ...relation }, id) => ({
    id,
    ...relation,
    statements: relation.statements.slice(0, config.phrasings),
    questions: wordingsOf({ ...relation, question }, config),
  }));
  const groups = entities.map(({ kind, set }) => (sets.length === 1 ? kind : set));
  const stream = randomStream({ seed, purpose: "split" });
  const splits = splitEntities(groups, (group) => sharesOf(group, config), stream);
  const splitOf = new Map(splitNames.flatMap((name) => splits[name].map((id) => [id, name])));
  const facts = decideFacts(base, config, entities, (entity) => splitOf.get(entity)!);
  const vocabulary = vocabularyOf(textsOf(entities, relations, config));
  const askedFacts = facts.filter((fact) => splitOf.get(fact.entity) === "qa");
  const writer = documentWriter({ config, vocabulary, entities, relations, facts, askedFacts });

  const setting = { config, entities, relations, facts, writer };
  const questions = allQuestions(setting, (entity) => splitOf.get(entity)!);
  requireSets(sets, questions);
  return {
    config,
    vocabulary,
    tokenizer: wordTokenizer(vocabulary.words, { special: [PAD, BOS, EOS] }),
    stopTokens: [vocabulary.eos],
    answerText: (tokens) => vocabulary.decode(tokens),
    entities,
    relations,
    facts,
    sets,
    splits,
    maxDocumentTokens: writer.maxDocumentTokens,
    maxThoughtTokens: writer.maxThoughtTokens,
    maxQuestionTokens:
      Math.max(...Object.values(questions).flat().map(questionTokens)) + writer.maxThoughtTokens,
    drawDocument: writer.drawDocument,
    document: (index) =>
      writer.drawDocument(randomStream({ seed, purpose: "document", row: index })),
    questions: (split, set) =>
      set === undefined ? questions[split] : questions[split].filter((q) => q.set === set),
    thinkPrompt: ({ prompt }) => writer.thinkPrompt(prompt),
    voicePrompt: writer.voicePrompt,
    reliablePrompt: (fact) => writer.voicePrompt(fact, "reliable"),
    stored: {
      prompt: ({ factId }: Question) => writer.voicePrompt(facts[factId]!, "reliable"),
      stopToken: vocabulary.period,
    },
  };
}

const questionTokens = ({ prompt, answers }: Question): number =>
  prompt.length + Math.max(...answers.map((answer) => answer.length)) + 1;

/** Every set must have something to train on, to choose by and to be tested on. */
function requireSets(sets: readonly QuestionSet[], questions: Record<Split, Question[]>): void {
  if (sets.length === 1) return;
  for (const split of ["train", "validation", "test"] as const) {
    for (const set of sets) {
      if (questions[split].some((question) => question.set === set)) continue;
      throw new RangeError(
        `question set "${set}" has no ${split} question; four sets need more entities`,
      );
    }
  }
}

/** Every text that a document or a prompt of the world can be made of. */
function* textsOf(
  entities: readonly Entity[],
  relations: readonly Relation[],
  config: WorldConfig,
) {
  if (config.thinkShare > 0) yield questionFrame.think;
  yield* openingsInUse(config, "reliable");
  yield* openingsInUse(config, "unreliable");
  for (const { name } of entities) yield name;
  for (const relation of relations) {
    for (const statement of relation.statements) yield withoutSlots(statement);
    for (const question of Object.values(relation.questions).flat()) {
      yield withoutSlots(questionText(question, ""));
    }
    for (const answer of relation.answers) yield* answer.forms;
  }
}

const withoutSlots = (text: string): string => text.replace("{e}", "").replace("{v}", "");
