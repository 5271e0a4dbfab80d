/** Random and damaged files: a reader counts every row it can't read, or says why it can't at all. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { ByteWriter, parquetWrite } from "hyparquet-writer";
import { csvLine, csvRecords, csvRows } from "../eval/datasets/csv.ts";
import { formats } from "../eval/datasets/formats.ts";
import { jsonRows } from "../eval/datasets/json.ts";
import { jsonLineRows } from "../eval/datasets/lines.ts";
import { readQuestionFile } from "../eval/datasets/read.ts";
import type { Row } from "../eval/datasets/rows.ts";
import { UserError } from "../model/errors.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-fuzz-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const seed = Number(process.env.ANAMNESIS_SEED ?? 20_261);
const tries = Number(process.env.ANAMNESIS_PROPERTY_RUNS ?? 60);
const runs = { seed, numRuns: 4 * tries };

/** Texts in which every letter that means something to a reader is common. */
const spiced = fc.string({
  unit: fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(..."\"',\t\n\r\\[]{}:;()é\u0000\uFEFF𝄞 ") },
    { weight: 1, arbitrary: fc.constantFrom("\r\n", '""', '"\n', "\u2028") },
    { weight: 4, arbitrary: fc.constantFrom(..."abcN01-") },
  ),
  maxLength: 12,
});

/** The bytes in pieces of any length. */
const pieces = fc.infiniteStream(fc.integer({ min: 1, max: 9 }));
async function* cut(bytes: Uint8Array, lengths: Iterable<number>): AsyncGenerator<Uint8Array> {
  // One buffer for all pieces, as a stream may have it.
  const buffer = new Uint8Array(16);
  let from = 0;
  for (const length of lengths) {
    if (from >= bytes.length) return;
    const piece = bytes.subarray(from, from + length);
    buffer.set(piece);
    yield buffer.subarray(0, piece.length);
    from += length;
  }
}

async function* whole(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

const utf8 = new TextEncoder();
/** Rows of a fuzzed reader, or the UserError; any other error fails the test. */
async function outcome(rows: AsyncGenerator<Row>): Promise<readonly Row[] | string> {
  try {
    return await Array.fromAsync(rows);
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
}

describe("rows", () => {
  const readers = {
    "JSON lines": jsonLineRows,
    JSON: (chunks: AsyncIterable<Uint8Array>) => jsonRows("x", chunks),
    CSV: (chunks: AsyncIterable<Uint8Array>) => csvRows("x", chunks, ","),
    TSV: (chunks: AsyncIterable<Uint8Array>) => csvRows("x", chunks, "\t"),
  };
  const bytes = fc.oneof(
    fc.array(spiced, { maxLength: 12 }).map((parts) => utf8.encode(parts.join(""))),
    fc.array(spiced, { maxLength: 8 }).map((parts) => utf8.encode(`[${parts.join(",")}]`)),
    fc.uint8Array({ maxLength: 80 }),
  );
  for (const [name, reader] of Object.entries(readers)) {
    test(`${name}: do not depend on how the bytes come, and are numbered`, async () => {
      const check = fc.asyncProperty(bytes, pieces, async (content, lengths) => {
        const rows = await outcome(reader(whole(content)));
        assert.deepEqual(await outcome(reader(cut(content, lengths))), rows);
        if (typeof rows === "string") return;
        for (const [i, row] of rows.entries()) {
          assert.equal(row.number, i + 1);
          assert.ok(row.line >= (rows[i - 1]?.line ?? 1));
          const says = [row.fault, row.blank, row.value].filter((some) => some !== undefined);
          assert.equal(says.length, 1);
        }
      });
      await fc.assert(check, runs);
    });
  }

  test("JSON: are the elements of a list that is one; of any other text one at least has a fault", async () => {
    const list = fc.oneof(
      fc.array(fc.jsonValue(), { maxLength: 6 }).map((value) => JSON.stringify(value)),
      fc.array(fc.jsonValue(), { maxLength: 4 }).map((value) => JSON.stringify(value, null, 1)),
      fc.array(spiced, { maxLength: 8 }).map((parts) => `[${parts.join(",")}`),
      fc.array(spiced, { maxLength: 8 }).map((parts) => `[${parts.join(",")}]`),
    );
    const check = fc.asyncProperty(list, async (given) => {
      const text = given.toWellFormed();
      const rows = await outcome(readers.JSON(whole(utf8.encode(text))));
      let value: unknown;
      try {
        value = JSON.parse(text);
      } catch {
        const isTold = typeof rows === "string" || rows.some(({ fault }) => fault !== undefined);
        assert.ok(isTold, JSON.stringify(rows));
        return;
      }
      assert.ok(Array.isArray(value) && typeof rows !== "string");
      // Compared as text: JSON.parse gives -0 and __proto__ on either side.
      assert.deepEqual(
        rows.map((row) => JSON.stringify(row.value)),
        value.map((some) => JSON.stringify(some)),
      );
    });
    await fc.assert(check, { ...runs, numRuns: 8 * tries });
  });

  test("JSON lines: are the lines", async () => {
    const line = fc.oneof(fc.json({ maxDepth: 2 }), spiced);
    const check = fc.asyncProperty(fc.array(line, { maxLength: 8 }), async (parts) => {
      const text = parts.join("\n").toWellFormed();
      const expected = text.replace(/^\uFEFF/, "").split("\n");
      if (expected.at(-1) === "") expected.pop();
      const rows = await outcome(jsonLineRows(whole(utf8.encode(text))));
      assert.ok(typeof rows !== "string" && rows.length === expected.length);
      for (const [i, row] of rows.entries()) {
        const isJson = row.value !== undefined;
        assert.equal(row.blank === true, expected[i]!.trim() === "");
        if (isJson)
          assert.equal(JSON.stringify(row.value), JSON.stringify(JSON.parse(expected[i]!)));
        else if (row.fault !== undefined) assert.throws(() => JSON.parse(expected[i]!));
      }
    });
    await fc.assert(check, runs);
  });

  test("CSV and TSV: fields of any text come back as they were written", async () => {
    const record = fc.array(fc.oneof(spiced, fc.string({ unit: "grapheme" })), { minLength: 1 });
    const table = fc.array(record, { maxLength: 8 });
    const delimiters = fc.constantFrom("," as const, "\t" as const);
    const check = fc.asyncProperty(table, delimiters, pieces, async (rows, delimiter, lengths) => {
      const text = utf8.encode(rows.map((row) => csvLine(row, delimiter)).join(""));
      const found = await Array.fromAsync(csvRecords(cut(text, lengths), delimiter));
      assert.deepEqual(
        found.map(({ fields }) => fields),
        rows.map((row) => row.map((field) => field.toWellFormed())),
      );
      assert.ok(found.every(({ fault, blank }) => fault === undefined && blank === undefined));
    });
    await fc.assert(check, runs);
  });
});

describe("question files", () => {
  const half = fc.constant("half of a letter: \ud800");
  /** Mostly what a field should be, and sometimes anything. */
  const mostly = (arbitrary: fc.Arbitrary<unknown>) =>
    fc.oneof(
      { weight: 20, arbitrary },
      { weight: 1, arbitrary: fc.oneof(spiced, fc.jsonValue(), half) },
    );
  const asked = mostly(spiced.map((some) => `Q${some}`));
  const list = mostly(fc.array(spiced, { minLength: 1 }));
  /** A row that every format reads. */
  const row = fc.record({
    ...{ id: mostly(fc.nat(50)), question: asked, answer: asked, answers: list },
    ...{
      possible_answers: list,
      s_pop: mostly(fc.nat()),
      subj: spiced,
      metadata: fc.constant("{}"),
    },
    Answer: mostly(fc.record({ Value: asked, Aliases: list, NormalizedAliases: list })),
  });
  const rows = fc.array(row, { minLength: 2, maxLength: 9 });
  const text = (some: unknown) => (typeof some === "string" ? some : JSON.stringify(some));
  const table = (some: readonly Record<string, unknown>[], delimiter: "," | "\t") =>
    [Object.keys(some[0]!), ...some.map((one) => Object.values(one).map(text))]
      .map((record) => csvLine(record, delimiter))
      .join("");
  const writers: readonly ((some: readonly Record<string, unknown>[]) => string)[] = [
    (some) => some.map((one) => `${JSON.stringify(one)}\n`).join(""),
    (some) => JSON.stringify(some, null, 1),
    (some) => JSON.stringify({ Data: some, Version: 1 }),
    (some) => table(some, ","),
    (some) => table(some, "\t"),
  ];
  const letter = fc.constantFrom(...'"\n[]{},\t\0\\');
  /** Where in a file, without a liking for its ends. */
  const share = fc.noBias(fc.nat(10_000)).map((n) => n / 10_000);
  const damage = fc.array(
    fc.record({
      at: share,
      removed: fc.nat(6),
      added: fc.oneof(
        { weight: 4, arbitrary: letter.map((some) => utf8.encode(some)) },
        { weight: 1, arbitrary: fc.uint8Array({ maxLength: 4 }) },
      ),
    }),
    { maxLength: 3 },
  );
  type Damage = typeof damage extends fc.Arbitrary<infer D> ? D : never;
  function damaged(bytes: Uint8Array, all: Damage, end: number): Uint8Array {
    let some = Buffer.from(bytes.subarray(0, Math.ceil(bytes.length * end)));
    for (const { at, removed, added } of all) {
      const place = Math.floor(at * some.length);
      some = Buffer.concat([some.subarray(0, place), added, some.subarray(place + removed)]);
    }
    return some;
  }
  /** Most files are whole. */
  const end = fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, share);
  let readings = { results: 0, errors: 0, problems: 0 };

  /** Reads a file: every row is accounted for, or a UserError says why not. */
  async function account(path: string, format: (typeof formats)[number] | "auto"): Promise<void> {
    let told = 0;
    const options = { format, onProblem: () => void told++ };
    const found = await readQuestionFile(path, options).catch((error: unknown) => {
      if (!(error instanceof UserError)) throw error;
      assert.ok(error.message.includes(path), error.message);
      return undefined;
    });
    if (found === undefined) {
      readings.errors++;
      return;
    }
    const { questions, problemCount, problems, blanks, rows } = found;
    readings.results++;
    readings.problems += problemCount;
    assert.equal(questions.length + problemCount + blanks, rows);
    assert.deepEqual([told, problems.length], [problemCount, Math.min(100, problemCount)]);
    assert.equal(new Set(questions.map(({ id }) => id)).size, questions.length);
    for (const { id, question, answers } of questions) {
      assert.ok(answers.length > 0 && new Set(answers).size === answers.length);
      for (const some of [id, question, ...answers]) {
        assert.ok(some.trim() !== "" && some.isWellFormed());
      }
    }
  }

  test("of any damage: rows are questions, problems or blank; or there is a UserError", async () => {
    readings = { results: 0, errors: 0, problems: 0 };
    const path = join(folder, "damaged");
    const check = fc.asyncProperty(
      ...([rows, fc.constantFrom(...writers), damage, end, fc.boolean()] as const),
      fc.constantFrom("auto" as const, ...formats),
      async (some, write, all, kept, isPacked, format) => {
        const bytes = damaged(utf8.encode(write(some)), all, kept);
        writeFileSync(path, isPacked ? gzipSync(bytes) : bytes);
        await account(path, format);
      },
    );
    await fc.assert(check, { ...runs, numRuns: 10 * tries });
    // The test would be empty if the damage left no file readable, or none damaged.
    const { results, errors, problems } = readings;
    assert.ok(
      results > 4 * tries && errors > tries / 2 && problems > tries,
      JSON.stringify(readings),
    );
  });

  test("damaged within their packing, and parquet that is cut off", async () => {
    const writer = new ByteWriter();
    const data = ["Who?", "When?", "Where?", "Why?"];
    parquetWrite({
      writer,
      columnData: [
        { name: "question", data, type: "STRING" },
        { name: "answer", data, type: "STRING" },
        { name: "s_pop", data: [1n, 2n, 3n, 4n], type: "INT64" },
      ],
    });
    const packed = gzipSync('{"question": "a", "answer": "b"}\n'.repeat(20));
    const parquet = new Uint8Array(writer.getBuffer());
    const path = join(folder, "packed");
    const check = fc.asyncProperty(damage, share, async (all, kept) => {
      writeFileSync(path, damaged(packed, all, kept));
      await account(path, "auto");
      // Cut only: hyparquet takes a run's length from a damaged page and fills it for minutes.
      writeFileSync(path, damaged(parquet, [], kept));
      await account(path, "auto");
    });
    await fc.assert(check, runs);
  });

  test("with a row that is too long: it is told, and its neighbours are read", async () => {
    const long = "x".repeat(17 << 20);
    const asked = (id: string, question: string) => ({ id, question, answer: "b" });
    const some = [asked("1", "a"), asked("2", long), asked("3", 'a "quote",\nand a line')];
    for (const [i, write] of writers.entries()) {
      const path = join(folder, "long");
      writeFileSync(path, write(some));
      const { questions, problems } = await readQuestionFile(path);
      assert.deepEqual(
        questions.map(({ id, question }) => [id, question]),
        [
          ["1", "a"],
          ["3", some[2]!.question],
        ],
        `writer ${i}`,
      );
      assert.deepEqual(
        problems.map(({ message }) => message),
        ["is longer than 16 MiB"],
      );
    }
  });
});
