/** JSON files, streamed: the elements of a list, or of the list that an object holds as "Data". */
import { UserError } from "../../model/errors.ts";
import type { Bytes } from "./bytes.ts";
import { jsonValue, type Row, RowBytes } from "./rows.ts";

/** Names under which an object at the top holds its list: TriviaQA's, and common ones. */
export const LIST_NAMES: readonly string[] = ["Data", "data", "questions", "examples"];

const code = (letter: string): number => letter.charCodeAt(0);
const [QUOTE, BACKSLASH, COMMA, COLON, NEWLINE] = [...'"\\,:\n'].map(code);
const [LIST, END_OF_LIST] = [..."[]"].map(code);
const OPENS = new Set([..."[{"].map(code));
const CLOSES = new Set([..."]}"].map(code));
const SPACES = new Set([..." \t\r\n"].map(code));
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

/**
 * A row for each element; memory holds one. An element that is not JSON is a row with its fault; so
 * is a file that ends before the list does, or goes on behind it. UserErrors: the file is no list
 * and no object with one.
 */
export async function* jsonRows(path: string, chunks: Bytes): AsyncGenerator<Row> {
  const scanner = new Scanner();
  for await (const chunk of chunks) yield* scanner.scan(chunk);
  if (!scanner.hasList) {
    const names = LIST_NAMES.map((name) => `"${name}"`).join(", ");
    throw new UserError(`${path} is no JSON list, and no object with a list named ${names}`);
  }
  const cut = scanner.end();
  if (cut !== undefined) yield cut;
}

/** Follows the brackets and strings of a JSON text, byte by byte. */
class Scanner {
  /** Whether a list of rows was met. */
  hasList = false;
  readonly #row = new RowBytes();
  readonly #name = new RowBytes();
  #depth = 0;
  /** Depth of the elements of the list that is being read; 0 outside of it. */
  #inside = 0;
  #isString = false;
  #isEscaped = false;
  /** Where the text of a row, or a name of the object at the top, begins in the chunk. */
  #from = 0;
  #nameFrom: number | undefined;
  #lastName = "";
  /** Whether the value of a name of the object at the top is next. */
  #isValue = false;
  #isStarted = false;
  /** Bytes before the chunk. */
  #before = 0;
  #isOver = false;
  #number = 0;
  #line = 1;
  /** Where the row's text began; undefined: there was none yet. Behind the end, whether there was. */
  #rowLine: number | undefined;
  #isAfterComma = false;

  *scan(chunk: Uint8Array): Generator<Row> {
    this.#from = 0;
    if (this.#nameFrom !== undefined) this.#nameFrom = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]!;
      if (byte === NEWLINE) this.#line++;
      if (this.#isString) this.#inString(chunk, i, byte);
      else if (!SPACES.has(byte)) {
        const row = this.#structure(chunk, i, byte);
        if (row !== undefined) yield row;
      }
    }
    this.#before += chunk.length;
    if (this.#inside > 0) this.#row.add(chunk.subarray(this.#from), true);
    if (this.#nameFrom !== undefined) this.#name.add(chunk.subarray(this.#nameFrom), true);
  }

  /** What the end of the file leaves open. */
  end(): Row | undefined {
    if (this.#isOver) return undefined;
    return this.#faulty("is cut off: the file ends within the list");
  }

  #inString(chunk: Uint8Array, i: number, byte: number): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === BACKSLASH) this.#isEscaped = true;
    else if (byte === QUOTE) {
      this.#isString = false;
      if (this.#nameFrom === undefined) return;
      this.#name.add(chunk.subarray(this.#nameFrom, i), false);
      this.#nameFrom = undefined;
      this.#lastName = this.#name.take().text;
    }
  }

  #structure(chunk: Uint8Array, i: number, byte: number): Row | undefined {
    if (this.#isOver) {
      if (this.#rowLine !== undefined) return undefined;
      this.#rowLine = this.#line;
      return this.#faulty("is text behind the end of the list");
    }
    let row: Row | undefined;
    if (this.#inside > 0) {
      const isSibling = this.#depth === this.#inside;
      if (isSibling && (byte === COMMA || byte === END_OF_LIST)) {
        row = this.#element(chunk.subarray(this.#from, i), byte === COMMA);
        this.#from = i + 1;
      } else {
        this.#rowLine ??= this.#line;
        // The bracket of an object that was not opened: the row is no JSON, the next may be.
        if (isSibling && CLOSES.has(byte)) return undefined;
      }
    }
    this.#follow(i, byte);
    return row;
  }

  /** Depth, strings, and where the list begins and ends. */
  #follow(i: number, byte: number): void {
    const isMark = BYTE_ORDER_MARK[this.#before + i] === byte;
    if (!this.#isStarted && !OPENS.has(byte) && !isMark) this.#isOver = true;
    if (byte === QUOTE) {
      this.#isString = true;
      if (this.#inside === 0 && this.#depth === 1 && !this.#isValue) this.#nameFrom = i + 1;
    } else if (OPENS.has(byte)) this.#open(i, byte === LIST);
    else if (CLOSES.has(byte)) {
      this.#depth--;
      this.#isOver = this.#depth === 0;
      if (this.#depth < this.#inside) this.#inside = 0;
    } else if (this.#depth === 1 && (byte === COLON || byte === COMMA)) {
      this.#isValue = byte === COLON;
    }
  }

  #open(i: number, isList: boolean): void {
    const isTop = !this.#isStarted;
    this.#isStarted = true;
    this.#depth++;
    if (this.#inside > 0 || !isList) return;
    const isNamed = this.#depth === 2 && this.#isValue && LIST_NAMES.includes(this.#lastName);
    if (!isTop && !isNamed) return;
    this.#inside = this.#depth;
    this.#from = i + 1;
    this.#isAfterComma = false;
    this.hasList = true;
  }

  /** The element that ends at a comma or with the list. */
  #element(last: Uint8Array, isComma: boolean): Row | undefined {
    this.#row.add(last, false);
    const { text, fault } = this.#row.take();
    const isEmpty = this.#rowLine === undefined;
    const isMissing = isEmpty && (isComma || this.#isAfterComma);
    this.#isAfterComma = isComma;
    if (isEmpty && !isMissing) return undefined;
    if (isMissing) return this.#faulty("has a comma with no row beside it");
    if (fault !== undefined) return this.#faulty(fault);
    return { ...this.#place(), ...jsonValue(text) };
  }

  readonly #faulty = (fault: string): Row => ({ ...this.#place(), fault });

  /** Number and line of the row; the next begins. Behind the end there is one at most. */
  #place(): { readonly number: number; readonly line: number } {
    const line = this.#rowLine ?? this.#line;
    if (!this.#isOver) this.#rowLine = undefined;
    return { number: ++this.#number, line };
  }
}
