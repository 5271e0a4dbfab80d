/** CSV and TSV as RFC 4180 has them: quotes, line ends within quotes; reading in a stream, writing. */
import { UserError } from "../../model/errors.ts";
import type { Bytes } from "./bytes.ts";
import { type Line, linesOf } from "./lines.ts";
import { LONGEST_ROW, type Row, TOO_LONG } from "./rows.ts";

export type Delimiter = "," | "\t";

/** A record's fields, or what is wrong with it, at the line on which it begins. */
export interface CsvRecord {
  readonly line: number;
  readonly fields: readonly string[];
  readonly fault?: string;
  /** Nothing but a line end. */
  readonly blank?: true;
}

const UNCLOSED = "has a quote that is not closed";

/**
 * Records of a file. A field is quoted if it begins with a quote; then a doubled quote is one, and
 * delimiters and line ends are text. Elsewhere a quote is a letter like others. A record that goes
 * wrong ends with its first line, and the lines behind it are read anew: a lost quote costs the
 * lines that it touches and no more. (Of lines that are read anew only the last may be continued,
 * so that no line is read more than three times, whatever the file.)
 */
export async function* csvRecords(chunks: Bytes, delimiter: Delimiter): AsyncGenerator<CsvRecord> {
  const reader = new RecordReader(delimiter);
  for await (const line of linesOf(chunks)) yield* reader.add(line);
  yield* reader.end();
}

class RecordReader {
  readonly #delimiter: Delimiter;
  /** Lines of the record that is open, and their length. */
  #open: Line[] = [];
  #size = 0;
  #parser: RecordParser;

  constructor(delimiter: Delimiter) {
    this.#delimiter = delimiter;
    this.#parser = new RecordParser(delimiter);
  }

  *add(line: Line): Generator<CsvRecord> {
    const state = this.#state(line);
    if (state === "whole") yield this.#record();
    else if (state !== "open") yield* this.#anew(state);
  }

  *end(): Generator<CsvRecord> {
    while (this.#open.length > 0) yield* this.#anew(UNCLOSED);
  }

  #state(line: Line): string {
    const isContinued = this.#open.length > 0;
    this.#open.push(line);
    this.#size += line.text.length;
    if (line.fault !== undefined) return isContinued ? UNCLOSED : line.fault;
    return this.#size > LONGEST_ROW ? TOO_LONG : this.#parser.add(line);
  }

  /** The record that is open; the next begins. */
  #record(fault?: string): CsvRecord {
    const { number: line, text } = this.#open[0]!;
    const { fields } = this.#parser;
    const isBlank = this.#open.length === 1 && text === "" && fault === undefined;
    [this.#open, this.#size, this.#parser] = [[], 0, new RecordParser(this.#delimiter)];
    if (fault !== undefined) return { line, fields: [], fault };
    return { line, fields, ...(isBlank ? { blank: true } : {}) };
  }

  /** Gives up the record that is open, and reads the lines behind its first anew. */
  *#anew(fault: string): Generator<CsvRecord> {
    const rest = this.#open.slice(1);
    yield this.#record(fault);
    for (const [i, line] of rest.entries()) {
      const state = this.#state(line);
      if (state === "whole") yield this.#record();
      else if (state !== "open") yield this.#record(state);
      else if (i < rest.length - 1) yield this.#record(UNCLOSED);
    }
  }
}

/** Puts the fields of one record together, line by line. */
class RecordParser {
  readonly fields: string[] = [];
  readonly #delimiter: Delimiter;
  #quoted: string | undefined;

  constructor(delimiter: Delimiter) {
    this.#delimiter = delimiter;
  }

  /** "whole": the record ends with this line; "open": within quotes; else what is wrong. */
  add({ text, end }: Line): "whole" | "open" | string {
    let at = 0;
    for (;;) {
      if (this.#quoted === undefined && text[at] !== '"') {
        const next = text.indexOf(this.#delimiter, at);
        this.fields.push(text.slice(at, next < 0 ? undefined : next));
        if (next < 0) return "whole";
        at = next + 1;
        continue;
      }
      if (this.#quoted === undefined) [this.#quoted, at] = ["", at + 1];
      const closed = this.#close(text, at);
      if (closed === undefined) {
        this.#quoted += `${text.slice(at)}${end}`.replaceAll('""', '"');
        return "open";
      }
      this.#quoted += text.slice(at, closed).replaceAll('""', '"');
      this.fields.push(this.#quoted!);
      this.#quoted = undefined;
      at = closed + 1;
      if (at === text.length) return "whole";
      if (text[at] !== this.#delimiter) {
        return `has text behind the closing quote of field ${this.fields.length}`;
      }
      at++;
    }
  }

  /** Where the first quote that is not doubled stands. */
  #close(text: string, from: number): number | undefined {
    for (let at = text.indexOf('"', from); at >= 0; at = text.indexOf('"', at + 2)) {
      if (text[at + 1] !== '"') return at;
    }
    return undefined;
  }
}

/**
 * Rows by the names in the first record. DPR's files of two columns have no names: where the second
 * field of the first record is a list, the columns are "question" and "answer". An empty field is
 * no field. A UserError where the names can't be read, or two are the same.
 */
export async function* csvRows(
  path: string,
  chunks: Bytes,
  delimiter: Delimiter,
): AsyncGenerator<Row> {
  let names: readonly string[] | undefined;
  let number = 0;
  for await (const { line, fields, fault, blank } of csvRecords(chunks, delimiter)) {
    if (names === undefined && blank === undefined) {
      if (fault !== undefined)
        throw new UserError(`${path} line ${line}, the names of its columns, ${fault}`);
      const isNamed = !(fields.length === 2 && /^\[.*\]$/s.test(fields[1]!));
      names = isNamed ? namesOf(path, fields) : ["question", "answer"];
      if (isNamed) continue;
    }
    const place = { number: ++number, line };
    if (blank) yield { ...place, blank };
    else if (fault !== undefined) yield { ...place, fault };
    else if (fields.length !== names!.length) {
      const count = `${fields.length} ${fields.length === 1 ? "field" : "fields"}`;
      yield { ...place, fault: `has ${count} where ${names!.length} columns are named` };
    } else {
      const entries = names!.map((name, i) => [name, fields[i]!] as const);
      yield { ...place, value: Object.fromEntries(entries.filter(([, field]) => field !== "")) };
    }
  }
}

function namesOf(path: string, fields: readonly string[]): readonly string[] {
  const names = fields.map((name) => name.trim());
  const twice = names.find((name, i) => name !== "" && names.indexOf(name) !== i);
  if (twice !== undefined) throw new UserError(`${path}: two columns are named "${twice}"`);
  return names;
}

/** A record as a line of CSV: fields that need it in quotes; ends in CRLF, as RFC 4180 has it. */
export function csvLine(fields: readonly string[], delimiter: Delimiter): string {
  const quoted = fields.map((field) => {
    // The only field of a record is quoted where it is empty: the line would be blank.
    const needs = /["\r\n]/.test(field) || field.includes(delimiter) || /^\uFEFF/.test(field);
    const isBlank = field === "" && fields.length === 1;
    return needs || isBlank ? `"${field.replaceAll('"', '""')}"` : field;
  });
  return `${quoted.join(delimiter)}\r\n`;
}
