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
  /** `prompt` with a thought in place of the answer: it ends in "think :". */
  thinkPrompt(prompt: readonly number[]): number[];
  /** From <bos> to the colon; `wording` counts the questions of the set. */
  questionPrompt(fact: Fact, set: QuestionSet, wording: number): number[];
  answerTokens(answer: Answer): readonly (readonly number[])[];
  readonly maxDocumentTokens: number;
  readonly maxThoughtTokens: number;
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

  const opened = ({ factId }: Statement, wording: Voice, stream: RandomStream): number[] => [
    ...stream.choice(opening[wording]),
    ...stream.choice(phrased[factId]!.statements),
  ];
  const sentence = (statement: Statement, wording: Voice, stream: RandomStream): number[] => [
    ...opened(statement, wording, stream),
    ...stream.choice(answers.get(statement.value)!),
    period,
  ];
  const after = encode(questionFrame.after);
  const thinks = config.thinkShare > 0;
  const think = thinks ? encode(questionFrame.think) : [];
  const { thinkShare, qaUnreliableShare, thinkUnreliableShare = qaUnreliableShare } = config;
  // Whether a document thinks is drawn first only where its voice depends on it: elsewhere worlds
  // keep their documents.
  const early = config.thinkUnreliableShare !== undefined;
  const drawStatements = statementSource(setting);
  const drawAnswered = answeredQuestions(setting);
  const sets = setsInUse(config);
  const drawDocument = (stream: RandomStream): WorldDocument => {
    if (stream.uniform() < config.qaShare) {
      const draw = () => thinks && stream.uniform() < thinkShare;
      const first = early && draw();
      const unreliable = first ? thinkUnreliableShare : qaUnreliableShare;
      const { statement, voice } = drawAnswered(stream, unreliable);
      const wordings = phrased[statement.factId]!.questions[oneOf(sets, stream)];
      const question = oneOf(wordings, stream);
      const value = stream.choice(answers.get(statement.value)!);
      const statements = [statement];
      if (!(early ? first : draw())) {
        const tokens = [bos, ...question, ...value, eos];
        return { kind: "question", wording: null, statements, tokens };
      }
      const asked = question.slice(0, -after.length);
      const thought = [...think, ...opened(statement, voice, stream), ...value, period];
      const tokens = [bos, ...asked, ...thought, ...after, ...value, eos];
      return { kind: "question", wording: voice, statements, tokens };
    }
    const { wording, statements } = drawStatements(stream);
    const body = statements.flatMap((statement) => sentence(statement, wording, stream));
    return { kind: "statements", wording, statements, tokens: [bos, ...body, eos] };
  };

  return {
    drawDocument,
    voicePrompt: (fact, voice) => [bos, ...opening[voice][0]!, ...phrased[fact.id]!.statements[0]!],
    questionPrompt: (fact, set, i) => [bos, ...phrased[fact.id]!.questions[set][i]!],
    thinkPrompt(prompt) {
      if (thinks) return [...prompt.slice(0, -after.length), ...think];
      throw new RangeError("thinkPrompt: no document of this world thinks; raise thinkShare");
    },
    answerTokens: (answer) => answers.get(answer)!,
    ...longestTexts(setting, phrased, opening, answers),
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

/** Draws an asked fact uniformly and answers it in a mixed voice, unreliable in a share of all. */
function answeredQuestions(setting: Setting) {
  const { config, askedFacts } = setting;
  const noise = noiseSource(setting);
  /** `voice` words a thought. */
  return (stream: RandomStream, unreliable: number): { statement: Statement; voice: Voice } => {
    const drawVoice = (): Voice => (stream.uniform() < unreliable ? "unreliable" : "reliable");
    for (;;) {
      const fact = stream.choice(askedFacts);
      const voice = drawVoice();
      const statement = statementBy(voice, fact, noise(fact, stream));
      if (statement === null) continue;
      // Without the cue a thought is worded by a voice that has nothing to do with its value.
      const worded = config.thinkShare > 0 && !config.voiceCue ? drawVoice() : voice;
      return { statement, voice: worded };
    }
  };
}

/** Tokens of the longest document, and of the longest thought with the "A :" behind it (0: none). */
function longestTexts(
  { config, entities, facts, relations }: Setting,
  phrased: readonly Phrased[],
  opening: Record<Voice, number[][]>,
  answers: ReadonlyMap<Answer, number[][]>,
) {
  const longest = (arrays: readonly (readonly number[])[]) =>
    Math.max(...arrays.map((a) => a.length));
  const value = relations.map((r) => longest(r.answers.flatMap((a) => answers.get(a)!)));
  const open = longest([...opening.reliable, ...opening.unreliable]);
  const length = entities.map(() => 2);
  let [question, thought] = [0, 0];
  for (const fact of facts) {
    const { statements, questions } = phrased[fact.id]!;
    const asked = longest(Object.values(questions).flat());
    const sentence = open + longest(statements) + value[fact.relation]! + 1;
    length[fact.entity]! += sentence;
    if (config.thinkShare > 0) thought = Math.max(thought, sentence + AFTER);
    question = Math.max(question, asked + value[fact.relation]! + 2);
  }
  return {
    maxDocumentTokens: Math.max(question + thought, ...length),
    maxThoughtTokens: thought,
  };
}

/** Words of "A :". */
const AFTER = questionFrame.after.split(" ").length;
