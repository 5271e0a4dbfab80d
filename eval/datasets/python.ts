/** Values as Python prints them, which SimpleQA's metadata and DPR's answers are; never evaluated. */

const ESCAPES: Readonly<Record<string, string>> = {
  ...{ "\\": "\\", "'": "'", '"': '"', n: "\n", r: "\r", t: "\t", "\n": "" },
  ...{ a: "\x07", b: "\b", f: "\f", v: "\v" },
};
const NAMES: Readonly<Record<string, unknown>> = { True: true, False: false, None: null };
/** Lists within lists that are followed. */
const DEEPEST = 100;

/**
 * The value of a literal of strings, numbers, True, False, None, lists, tuples and dictionaries (a
 * Map, for any key may stand there). Throws a SyntaxError with the place where it is none.
 */
export function pythonValue(text: string): unknown {
  const reader = new Reader(text);
  const value = reader.value(0);
  reader.end();
  return value;
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  end(): void {
    if (this.#next() !== "") this.#fail("the end");
  }

  value(depth: number): unknown {
    if (depth > DEEPEST) throw new SyntaxError(`more than ${DEEPEST} lists within each other`);
    const first = this.#next();
    if (first === "'" || first === '"') return this.#string();
    if (first === "[") return this.#list("]", depth);
    if (first === "(") return this.#list(")", depth);
    if (first === "{") return this.#dictionary(depth);
    const word = /[\w.+-]+/y;
    word.lastIndex = this.#at;
    const found = word.exec(this.#text)?.[0] ?? "";
    if (Object.hasOwn(NAMES, found)) {
      this.#at += found.length;
      return NAMES[found];
    }
    if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(found)) this.#fail("a value");
    this.#at += found.length;
    return Number(found);
  }

  #list(close: string, depth: number): unknown[] {
    this.#at++;
    const items: unknown[] = [];
    while (this.#next() !== close) {
      items.push(this.value(depth + 1));
      this.#separator(close);
    }
    this.#at++;
    return items;
  }

  #dictionary(depth: number): Map<unknown, unknown> {
    this.#at++;
    const entries = new Map<unknown, unknown>();
    while (this.#next() !== "}") {
      const key = this.value(depth + 1);
      if (this.#next() !== ":") this.#fail('":"');
      this.#at++;
      entries.set(key, this.value(depth + 1));
      this.#separator("}");
    }
    this.#at++;
    return entries;
  }

  #separator(close: string): void {
    const next = this.#next();
    if (next === ",") this.#at++;
    else if (next !== close) this.#fail(`"," or "${close}"`);
  }

  #string(): string {
    const quote = this.#text[this.#at++]!;
    let text = "";
    for (;;) {
      const letter = this.#text[this.#at++];
      if (letter === undefined || letter === "\n") this.#fail("the end of a string");
      if (letter === quote) return text;
      text += letter === "\\" ? this.#escape() : letter;
    }
  }

  #escape(): string {
    const letter = this.#text[this.#at++] ?? "";
    const digits = { x: 2, u: 4, U: 8 }[letter];
    if (digits === undefined) return ESCAPES[letter] ?? `\\${letter}`;
    const code = this.#text.slice(this.#at, this.#at + digits);
    const point = Number.parseInt(code, 16);
    const isCode = code.length === digits && /^[\da-fA-F]+$/.test(code) && point <= 0x10ffff;
    if (!isCode) this.#fail(`${digits} hexadecimal digits`);
    this.#at += digits;
    return String.fromCodePoint(point);
  }

  /** The next letter that is no white space; "" at the end. */
  #next(): string {
    while (/\s/.test(this.#text[this.#at] ?? "")) this.#at++;
    return this.#text[this.#at] ?? "";
  }

  #fail(wanted: string): never {
    throw new SyntaxError(`expected ${wanted} at letter ${this.#at + 1}`);
  }
}
