/** Makes a world out of bare facts: splits, decided facts, vocabulary, documents, questions. */
import { randomStream } from "../../tensor/random.ts";
import type { WorldConfig } from "./config.ts";
import { documentWriter, openingsInUse, questionText, type Writer } from "./documents.ts";
import { decideFacts } from "./facts.ts";
import { splitEntities } from "./split.ts";
import { vocabularyOf } from "./vocabulary.ts";
import {
  type Entity,
  type Fact,
  type FactBase,
  type Question,
  type Relation,
  type Split,
  splitNames,
  type World,
} from "./world.ts";

/** The world of `config` over given facts. Equal arguments give the same world, bit for bit. */
export function worldFrom(base: FactBase, config: WorldConfig): World {
  const { seed } = config;
  const entities: Entity[] = base.entities.map((entity, id) => ({ id, ...entity }));
  const relations: Relation[] = base.relations.map((relation, id) => ({
    id,
    ...relation,
    statements: relation.statements.slice(0, config.phrasings),
  }));
  const kinds = entities.map((entity) => entity.kind);
  const splits = splitEntities(kinds, config, randomStream({ seed, purpose: "split" }));
  const splitOf = new Map(splitNames.flatMap((name) => splits[name].map((id) => [id, name])));
  const facts = decideFacts(base, config, (entity) => splitOf.get(entity)!);
  const vocabulary = vocabularyOf(textsOf(entities, relations, config));
  const askedFacts = facts.filter((fact) => splitOf.get(fact.entity) === "qa");
  const writer = documentWriter({ config, vocabulary, entities, relations, facts, askedFacts });

  const questionOf = questionMaker(entities, relations, writer);
  const questions: Record<Split, Question[]> = { qa: [], train: [], validation: [], test: [] };
  for (const fact of facts) {
    const split = splitOf.get(fact.entity)!;
    questions[split].push(questionOf(fact, split));
  }
  return {
    config,
    vocabulary,
    entities,
    relations,
    facts,
    splits,
    maxDocumentTokens: writer.maxDocumentTokens,
    maxQuestionTokens: Math.max(...Object.values(questions).flat().map(questionTokens)),
    drawDocument: writer.drawDocument,
    document: (index) =>
      writer.drawDocument(randomStream({ seed, purpose: "document", row: index })),
    questions: (split) => questions[split],
    voicePrompt: writer.voicePrompt,
    reliablePrompt: (fact) => writer.voicePrompt(fact, "reliable"),
  };
}

const questionTokens = ({ prompt, answers }: Question): number =>
  prompt.length + Math.max(...answers.map((answer) => answer.length)) + 1;

function questionMaker(
  entities: readonly Entity[],
  relations: readonly Relation[],
  writer: Writer,
) {
  return (fact: Fact, split: Split): Question => {
    const entity = entities[fact.entity]!;
    const relation = relations[fact.relation]!;
    // A label that is not the truth stands alone: the truth is then marked wrong, as in real sets.
    const right = fact.label === fact.truth ? [fact.truth, ...fact.alsoTrue] : [fact.label];
    return {
      id: fact.id,
      factId: fact.id,
      entity: entity.id,
      relation: relation.id,
      relationName: relation.name,
      split,
      prompt: writer.questionPrompt(fact),
      promptText: questionText(relation, entity.name),
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

/** Every text that a document or a prompt of the world can be made of. */
function* textsOf(
  entities: readonly Entity[],
  relations: readonly Relation[],
  config: WorldConfig,
) {
  yield* openingsInUse(config, "reliable");
  yield* openingsInUse(config, "unreliable");
  for (const { name } of entities) yield name;
  for (const relation of relations) {
    for (const statement of relation.statements) yield withoutSlots(statement);
    yield withoutSlots(questionText(relation, ""));
    for (const answer of relation.answers) yield* answer.forms;
  }
}

const withoutSlots = (text: string): string => text.replace("{e}", "").replace("{v}", "");
