/** Question sets: what each reader makes of small files of the official shapes, and of bad ones. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { ByteWriter, parquetWrite } from "hyparquet-writer";
import { csvLine } from "../eval/datasets/csv.ts";
import type { Format } from "../eval/datasets/formats.ts";
import type { DataQuestion } from "../eval/datasets/question.ts";
import { readQuestionFile } from "../eval/datasets/read.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-datasets-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Writes a file, gzipped where its name says so. */
function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, name.endsWith(".gz") ? gzipSync(content) : content);
  return path;
}

const lines = (rows: readonly unknown[]): string =>
  rows.map((row) => `${JSON.stringify(row)}\n`).join("");

/** Reads a file that has no problem, and says what it was taken for. */
async function read(name: string, content: string | Uint8Array) {
  const found = await readQuestionFile(file(name, content), { strict: true });
  assert.equal(found.questions.length + found.blanks, found.rows);
  return { format: found.format, container: found.container, questions: found.questions };
}

describe("plain JSON lines", () => {
  const rows = [
    { question: "Who wrote Emma?", answer: "Jane Austen", entity: "Emma", popularity: 5 },
    { id: 7, text: " When? ", answers: ["1815", "1815", " "], relation: "year", topic: "books" },
  ];
  const [emma] = [
    {
      ...{ id: "#1", question: "Who wrote Emma?", answers: ["Jane Austen"] },
      ...{ entity: "Emma", popularity: 5 },
    },
  ];
  const when = { id: "7", question: "When?", answers: ["1815"], relation: "year", topic: "books" };
  const whole = lines(rows);

  test("give questions, with line ends of any style, a byte order mark, and gzipped", async () => {
    for (const text of [whole, whole.trimEnd(), `\uFEFF${whole.replaceAll("\n", "\r\n")}`]) {
      for (const name of ["plain.jsonl", "plain.jsonl.gz", "plain.json", "plain"]) {
        const found = await read(name, text);
        assert.deepEqual(found, { format: "plain", container: "jsonl", questions: [emma, when] });
      }
    }
    const one = await readQuestionFile(file("plain.jsonl", whole), { limit: 1 });
    assert.deepEqual([one.questions, one.rows], [[emma], 1]);
  });

  test("with bad rows: each is told with its line, the others are read", async () => {
    const bad = Buffer.concat([
      Buffer.from(
        `${lines(rows.slice(0, 1))}\n{"question": \n{"question": "a"}\n{"answer": "a"}\n`,
      ),
      Buffer.from([0x22, 0xff, 0x22, 0x0a]),
      Buffer.from(`[]\n{"id": "#1", "question": "a", "answer": "b"}\n`),
      Buffer.from(`{"question": "a\\ud800", "answer": "b"}\n${lines(rows.slice(1))}`),
    ]);
    const told: number[] = [];
    const path = file("bad.jsonl", bad);
    const found = await readQuestionFile(path, { onProblem: ({ line }) => told.push(line) });
    assert.deepEqual(found.questions, [emma, when]);
    assert.deepEqual([found.rows, found.blanks, found.problemCount], [10, 1, 7]);
    assert.deepEqual(told, [3, 4, 5, 6, 7, 8, 9]);
    for (const [i, message] of [
      /^is not JSON: /,
      /^has no "answers" and no "answer"$/,
      /^has neither "question" nor "text"$/,
      /^is not UTF-8$/,
      /^is no record with named fields$/,
      /^has the id "#1", which is that of line 1$/,
      /^has half of a character/,
    ].entries()) {
      assert.match(found.problems[i]!.message, message);
    }
    await assert.rejects(readQuestionFile(path, { strict: true }), /bad.jsonl line 3 is not JSON/);
  });

  test("of which no row is a question are an error, as is what can't be read", async () => {
    for (const [content, message] of [
      ["", /holds no questions: 0 rows$/],
      ["\n\n3\n", /holds no questions: 3 rows; line 3 is no record with named fields$/],
      ['{"a": 1, "b": 2}\n', /1 row; line 1 is in no known format: its fields are "a", "b"$/],
      ["[]", /holds no questions: 0 rows$/],
      ['{"a":\n1}', /2 rows; line 1 is not JSON/],
      [Uint8Array.of(0xff, 0xfe, 0x22, 0, 0x0a, 0), /is UTF-16: save it as UTF-8/],
      ["BZh91AY", /packed with bzip2: unpack it first/],
      [Buffer.concat([Buffer.alloc(257), Buffer.from("ustar")]), /is a tar archive/],
    ] as const) {
      await assert.rejects(readQuestionFile(file("none.jsonl", content)), message);
    }
    const object = readQuestionFile(file("object.json", '{"a":\n1}'));
    await assert.rejects(object, /no JSON list, and no object with a list named "Data"/);
    const packed = gzipSync(whole);
    writeFileSync(join(folder, "cut.jsonl.gz"), packed.subarray(0, packed.length - 9));
    await assert.rejects(readQuestionFile(join(folder, "cut.jsonl.gz")), /cannot read .*cut/);
    await assert.rejects(readQuestionFile(join(folder, "no.jsonl")), /there is no such file/);
    await assert.rejects(readQuestionFile(folder), /it is a folder/);
  });
});

describe("the official formats", () => {
  const pop = {
    ...{ id: "42", subj: "Emma", prop: "author", obj: "Jane Austen", subj_id: "1", s_pop: "5300" },
    ...{ s_aliases: "[]", question: "Who is the author of Emma?" },
    possible_answers: '["A Lady", "Jane Austen", "Jane \\"J.\\" Austen"]',
  };
  const popQuestion: DataQuestion = {
    ...{ id: "42", question: "Who is the author of Emma?", entity: "Emma", relation: "author" },
    ...{ answers: ["Jane Austen", "A Lady", 'Jane "J." Austen'], popularity: 5300 },
  };
  const table = (delimiter: "," | "\t", ...rows: readonly Record<string, string>[]): string =>
    [Object.keys(rows[0]!), ...rows.map((row) => Object.values(row))]
      .map((row) => csvLine(row, delimiter))
      .join("");
  const simple = {
    metadata: `{'topic': 'Music', 'answer_type': "Person", 'urls': ['https://x.org/a\\'b', 'y']}`,
    problem: 'Who said "one,\ntwo"?',
    answer: "Ann",
  };
  const simpleQuestion = {
    ...{ id: "#1", question: 'Who said "one,\ntwo"?', answers: ["Ann"], topic: "Music" },
  };
  const trivia = {
    Answer: {
      Aliases: ["Sunset Blvd", "West Sunset Boulevard"],
      HumanAnswers: ["The Boulevard"],
      NormalizedAliases: ["sunset blvd", "west sunset boulevard", "sunset bulevard"],
      NormalizedValue: "sunset boulevard",
      Type: "WikipediaEntity",
      Value: "Sunset Boulevard",
    },
    Question: "Which musical is it?",
    QuestionId: "tc_33",
    SearchResults: [{ Description: 'with "[{ brackets', Rank: 0 }],
  };
  const triviaQuestion = {
    ...{ id: "tc_33", question: "Which musical is it?" },
    answers: [
      ...["Sunset Boulevard", "Sunset Blvd", "West Sunset Boulevard", "The Boulevard"],
      "sunset bulevard",
    ],
  };
  const nq = { question: "who wrote emma", answer: ["Jane Austen", "Austen"] };
  const nqQuestion = { id: "#1", question: "who wrote emma", answers: nq.answer };
  const judged = { def_correct_predictions: ["J. A."], def_incorrect_predictions: ["Ann"] };
  const born = { question: "Where was Jane Austen born?", answers: ["Steventon"] };
  const bornQuestion = { id: "#1", ...born, relation: "P19", entity: "Jane Austen" };
  const web = {
    url: "http://www.freebase.com/view/en/jane_austen",
    targetValue: '(list (description "Henry \\"Harry\\" (the 4th)") (description Francis))',
    utterance: "who was jane austen's brother?",
  };
  const webQuestion = {
    ...{ id: "#1", question: "who was jane austen's brother?", entity: "jane austen" },
    answers: ['Henry "Harry" (the 4th)', "Francis"],
  };
  const { Value: value, Aliases: aliases } = trivia.Answer;
  const normal = { normalized_aliases: trivia.Answer.NormalizedAliases };
  const sameWithout = (last: number) => ({
    ...triviaQuestion,
    answers: triviaQuestion.answers.filter((_, i) => i !== 3 && i < last),
  });

  const cases: readonly (readonly [Format, string, string, DataQuestion])[] = [
    ["popqa", "popQA.tsv", table("\t", pop), popQuestion],
    ["popqa", "popQA.csv", table(",", pop), popQuestion],
    ["popqa", "popqa.jsonl", lines([{ ...pop, s_pop: 5300, id: 42 }]), popQuestion],
    [
      ...(["popqa", "lists.jsonl"] as const),
      lines([{ ...pop, possible_answers: JSON.parse(pop.possible_answers) }]),
      popQuestion,
    ],
    ["simpleqa", "simple_qa_test_set.csv", table(",", simple), simpleQuestion],
    [
      ...(["simpleqa", "simple.jsonl"] as const),
      lines([{ ...simpleQuestion, answers: undefined, answer: "Ann", answer_type: "Person" }]),
      simpleQuestion,
    ],
    [
      ...(["triviaqa", "unfiltered-web-dev.json"] as const),
      JSON.stringify({ Data: [trivia], Domain: "unfiltered-web", Version: 1.0 }),
      triviaQuestion,
    ],
    [
      ...(["triviaqa", "sample.json"] as const),
      JSON.stringify({ Domain: "Web", VerifiedEval: false, Data: [trivia], Split: "x" }, null, 2),
      triviaQuestion,
    ],
    [
      ...(["triviaqa", "hub.jsonl"] as const),
      lines([
        {
          ...{ question: trivia.Question, question_id: "tc_33", search_results: {} },
          answer: { value, aliases, ...normal },
        },
      ]),
      sameWithout(9),
    ],
    [
      ...(["triviaqa", "flat.jsonl"] as const),
      lines([{ question: trivia.Question, id: "tc_33", answer: value, aliases }]),
      sameWithout(4),
    ],
    ["nq-open", "NQ-open.dev.jsonl", lines([nq]), nqQuestion],
    ["nq-open", "efficientqa.test.jsonl", lines([{ ...nq, ...judged }]), nqQuestion],
    ["nq-open", "nq-test.csv", `who wrote emma\t["Jane Austen", 'Austen']\n`, nqQuestion],
    ["entity-questions", "P19.test.json", JSON.stringify([born]), bornQuestion],
    ["entity-questions", "P19_no_overlap.dev.jsonl", lines([born]), bornQuestion],
    ["entity-questions", "dev.jsonl", lines([{ relation: "P19", ...born }]), bornQuestion],
    ["webquestions", "train.json", JSON.stringify([web], null, 1), webQuestion],
    [
      ...(["webquestions", "hub.json"] as const),
      JSON.stringify([{ url: web.url, question: web.utterance, answers: webQuestion.answers }]),
      webQuestion,
    ],
    [
      ...(["webquestions", "split.json"] as const),
      JSON.stringify([{ qId: "wqr1", qText: "who?", answers: ["Ann"] }]),
      { id: "wqr1", question: "who?", answers: ["Ann"] },
    ],
  ];

  for (const [format, name, content, question] of cases) {
    test(`${format}: ${name}, recognised, named, and gzipped`, async () => {
      for (const packed of ["", ".gz"]) {
        const found = await read(`${name}${packed}`, content);
        assert.equal(found.format, format);
        assert.deepEqual(found.questions, [question]);
      }
      const named = await readQuestionFile(file(name, content), { format });
      assert.deepEqual(named.questions, [question]);
    });
  }

  test("in parquet: lists, records, whole numbers of 64 bits, columns of no interest", async () => {
    const writer = new ByteWriter();
    parquetWrite({
      writer,
      columnData: [
        { name: "id", data: [42n, 43n], type: "INT64" },
        { name: "subj", data: ["Emma", "Emma"], type: "STRING" },
        { name: "obj", data: ["Jane Austen", "x"], type: "STRING" },
        { name: "prop", data: ["author", "year"], type: "STRING" },
        { name: "wiki_context", data: ["long", "long"], type: "STRING" },
        { name: "question", data: [pop.question, "When?"], type: "STRING" },
        { name: "possible_answers", data: [pop.possible_answers, '["1815"]'], type: "STRING" },
        { name: "s_pop", data: [5300n, 5300n], type: "INT64" },
      ],
    });
    const bytes = new Uint8Array(writer.getBuffer());
    for (const name of ["popqa.parquet", "popqa.parquet.gz", "popqa"]) {
      const { container, format, questions } = await read(name, bytes);
      assert.deepEqual([container, format, questions.length], ["parquet", "popqa", 2]);
      assert.deepEqual(questions[0], popQuestion);
    }
    const cut = file("cut.parquet", bytes.subarray(0, bytes.length - 40));
    await assert.rejects(readQuestionFile(cut), /cannot read .*cut.parquet/);
  });

  test("a format that is named wrongly says of every row what it lacks", async () => {
    const path = file("nq.jsonl", lines([nq, nq]));
    const popqa = readQuestionFile(path, { format: "popqa" });
    await assert.rejects(popqa, /no questions: 2 rows; line 1 has no "possible_answers"/);
    const web = readQuestionFile(path, { format: "webquestions" });
    await assert.rejects(web, /line 1 has a "targetValue" that is no list of descriptions/);
  });
});

describe("bad tables", () => {
  const header = "id,question,answer\n";
  const read = (text: string) => readQuestionFile(file("table.csv", header + text));

  test("a lost quote costs the lines that it touches", async () => {
    const { questions, problems, rows } = await read(
      '1,"a\n2,b,c\n3,"two\nlines","x ""y"""\n\n4,d,"e" f\n5,g,h,i\n6,j\n7,k,l"m\n',
    );
    assert.deepEqual(
      questions.map(({ id, question, answers: [answer] }) => [id, question, answer]),
      [
        ["2", "b", "c"],
        ["3", "two\nlines", 'x "y"'],
        ["7", "k", 'l"m'],
      ],
    );
    assert.deepEqual(problems, [
      { line: 2, message: "has text behind the closing quote of field 2" },
      { line: 7, message: "has text behind the closing quote of field 3" },
      { line: 8, message: "has 4 fields where 3 columns are named" },
      { line: 9, message: "has 2 fields where 3 columns are named" },
    ]);
    assert.equal(rows, 8);
  });

  test("what is never closed is told with the line on which it begins", async () => {
    const { questions, problems, blanks } = await read('1,a,b\n2,"c,d\n\n3,e,f\n4,g,h');
    assert.deepEqual(
      questions.map(({ id }) => id),
      ["1", "3", "4"],
    );
    assert.deepEqual(
      [problems, blanks],
      [[{ line: 3, message: "has a quote that is not closed" }], 1],
    );
    await assert.rejects(read('x\n1,"a'), /no questions: 2 rows; line 2 has 1 field where 3/);
  });

  test("whose names can't be read are errors", async () => {
    for (const [text, message] of [
      [
        'id,"question,answer\n1,a,b\n',
        /line 1, the names of its columns, has a quote that is not closed/,
      ],
      ["id,answer,question,answer\n1,a,b,c\n", /two columns are named "answer"/],
    ] as const) {
      await assert.rejects(readQuestionFile(file("names.csv", text)), message);
    }
  });
});
