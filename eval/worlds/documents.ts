/** Writes documents: statements about one entity in one voice, or a question with its answer. */
import type { RandomStream } from "../../tensor/random.ts";
import type { WorldConfig } from "./config.ts";
import { cumulative, drawAnswer, neverStated } from "./facts.ts";
import { setsInUse } from "./question_sets.ts";
import { openings, questionFrame } from "./templates.ts";
import type { Vocabulary } from "./vocabulary.ts";
import {
  type Answer,
  type Entity,
  type Fact,
  mapSets,
  type QuestionSet,
  type Relation,
  type Statement,
  type Voice,
  type WorldDocument,
} from "./world.ts";

export interface Setting {
  readonly config: WorldConfig;
  readonly vocabulary: Vocabulary;
  readonly entities: readonly Entity[];
  readonly relations: readonly Relation[];
  readonly facts: readonly Fact[];
  /** Facts of the entities that question documents ask about. */
  readonly askedFacts: readonly Fact[];
}

export interface Writer {
  drawDocument(stream: RandomStream): WorldDocument;
  voicePrompt(fact: Fact, voice: Voice): number[];
  /** From <bos> to the colon; `wording` counts the questions of the set. */
  questionPrompt(fact: Fact, set: QuestionSet, wording: number): number[];
  answerTokens(answer: Answer): readonly (readonly number[])[];
  readonly maxDocumentTokens: number;
}

/** Every wording of one fact up to its value, as token ids. */
interface Phrased {
  readonly statements: readonly (readonly number[])[];
  readonly questions: Readonly<Record<QuestionSet, readonly (readonly number[])[]>>;
}

/** The openings in use, as words: voices differ in nothing else. */
export function openingsInUse(config: WorldConfig, voice: Voice): readonly string[] {
  return openings[voice].slice(0, config.sources);
}

/** Prepares all wordings as token ids once, so that drawing a document only joins arrays. */
export function documentWriter(setting: Setting): Writer {
  const { config, vocabulary, entities, relations, facts } = setting;
  const { encode, bos, eos, period } = vocabulary;
  const opening: Record<Voice, number[][]> = {
    reliable: openingsInUse(config, "reliable").map(encode),
    unreliable: openingsInUse(config, "unreliable").map(encode),
  };
  const answers = new Map(
    relations.flatMap((r) => r.answers.map((answer) => [answer, answer.forms.map(encode)])),
  );
  const phrased = facts.map((fact): Phrased => {
    const { name } = entities[fact.entity]!;
    const relation = relations[fact.relation]!;
    const statements = relation.statements.map((s) =>
      encode(beforeValue(s).replace("{e}", () => name)),
    );
    const asked = (set: QuestionSet) =>
      relation.questions[set].map((question) => encode(questionText(question, name)));
    const questions = mapSets(asked);
    return { statements, questions };
  });

  const sentence = (statement: Statement, wording: Voice, stream: RandomStream): number[] => [
    ...stream.choice(opening[wording]),
    ...stream.choice(phrased[statement.factId]!.statements),
    ...stream.choice(answers.get(statement.value)!),
    period,
  ];
  const drawStatements = statementSource(setting);
  const drawAnswered = answeredQuestions(setting);
  const sets = setsInUse(config);
  const drawDocument = (stream: RandomStream): WorldDocument => {
    if (stream.uniform() < config.qaShare) {
      const statement = drawAnswered(stream);
      const wordings = phrased[statement.factId]!.questions[oneOf(sets, stream)];
      const question = oneOf(wordings, stream);
      const tokens = [bos, ...question, ...stream.choice(answers.get(statement.value)!), eos];
      return { kind: "question", wording: null, statements: [statement], tokens };
    }
    const { wording, statements } = drawStatements(stream);
    const body = statements.flatMap((statement) => sentence(statement, wording, stream));
    return { kind: "statements", wording, statements, tokens: [bos, ...body, eos] };
  };

  return {
    drawDocument,
    voicePrompt: (fact, voice) => [bos, ...opening[voice][0]!, ...phrased[fact.id]!.statements[0]!],
    questionPrompt: (fact, set, i) => [bos, ...phrased[fact.id]!.questions[set][i]!],
    answerTokens: (answer) => answers.get(answer)!,
    maxDocumentTokens: longestDocument(setting, phrased, opening, answers),
  };
}

/** A single item costs no draw, so that worlds without a choice keep their documents. */
const oneOf = <T>(items: readonly T[], stream: RandomStream): T =>
  items.length === 1 ? items[0]! : stream.choice(items);

export function questionText(question: string, name: string): string {
  return [questionFrame.before, question.replace("{e}", () => name), questionFrame.after].join(" ");
}

/** The statement up to its last word, {v}: a causal model must read the entity first. */
function beforeValue(statement: string): string {
  if (statement.includes("{e}") && statement.endsWith(" {v}")) return statement.slice(0, -4);
  throw new Error(`statement "${statement}": expected {e} and, as its last word, {v}`);
}

/** What `voice` says of a fact, noise first; null where a reliable source does not know it. */
function statementBy(voice: Voice, fact: Fact, random: Answer | null): Statement | null {
  if (random !== null) return { factId: fact.id, value: random, origin: "noise" };
  if (fact.absent && voice === "reliable") return null;
  const truthful = voice === "reliable" || !(fact.contested || fact.absent);
  return { factId: fact.id, value: truthful ? fact.truth : fact.myth, origin: voice };
}

/** With the share of noise, a random answer that the world allows for the fact. */
function noiseSource({ config, relations }: Setting) {
  const sums = relations.map((relation) => cumulative(relation.prior));
  return (fact: Fact, stream: RandomStream): Answer | null => {
    if (stream.uniform() >= config.noiseShare) return null;
    return drawAnswer(relations[fact.relation]!, sums[fact.relation]!, neverStated(fact), stream);
  };
}

/** Draws an entity by popularity, a voice, and what that voice says of each of its facts. */
function statementSource(setting: Setting) {
  const { config, entities, facts } = setting;
  const popularity = cumulative(entities.map((entity) => entity.popularity));
  const factsOf: Fact[][] = entities.map(() => []);
  for (const fact of facts) factsOf[fact.entity]!.push(fact);
  const noise = noiseSource(setting);
  const drawVoice = (stream: RandomStream): Voice =>
    stream.uniform() < config.reliableShare ? "reliable" : "unreliable";

  return (stream: RandomStream): { wording: Voice; statements: Statement[] } => {
    for (;;) {
      const entity = stream.weighted(popularity);
      const wording = drawVoice(stream);
      const statements = stream.shuffle(factsOf[entity]!).flatMap((fact) => {
        // Without the cue each value has a voice of its own, else one value would tell the next.
        const voice = config.voiceCue ? wording : drawVoice(stream);
        return statementBy(voice, fact, noise(fact, stream)) ?? [];
      });
      if (statements.length > 0) return { wording, statements };
    }
  };
}

/** Draws an asked fact uniformly and answers it in a mixed voice. */
function answeredQuestions(setting: Setting) {
  const { config, askedFacts } = setting;
  const noise = noiseSource(setting);
  return (stream: RandomStream): Statement => {
    for (;;) {
      const fact = stream.choice(askedFacts);
      const voice = stream.uniform() < config.qaUnreliableShare ? "unreliable" : "reliable";
      const statement = statementBy(voice, fact, noise(fact, stream));
      if (statement !== null) return statement;
    }
  };
}

function longestDocument(
  { entities, facts, relations }: Setting,
  phrased: readonly Phrased[],
  opening: Record<Voice, number[][]>,
  answers: ReadonlyMap<Answer, number[][]>,
): number {
  const longest = (arrays: readonly (readonly number[])[]) =>
    Math.max(...arrays.map((a) => a.length));
  const value = relations.map((r) => longest(r.answers.flatMap((a) => answers.get(a)!)));
  const open = longest([...opening.reliable, ...opening.unreliable]);
  const length = entities.map(() => 2);
  let question = 0;
  for (const fact of facts) {
    const { statements, questions } = phrased[fact.id]!;
    const asked = longest(Object.values(questions).flat());
    length[fact.entity]! += open + longest(statements) + value[fact.relation]! + 1;
    question = Math.max(question, asked + value[fact.relation]! + 2);
  }
  return Math.max(question, ...length);
}
