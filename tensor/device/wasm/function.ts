/** The function builder: each method appends one statement to the body of a kernel. */
import { i32, v128 } from "./opcodes.ts";
import type { Operand, Value, ValueType } from "./tree.ts";
import { memarg, node, offsetText, operand, unsigned } from "./tree.ts";

/** A variable of a function; as a value, its content at that point. */
export interface Local<T extends ValueType = ValueType> extends Value<T> {
  readonly index: number;
}

/** A plain instruction, or a block of statements under a condition or in a loop. */
export type Statement =
  | Value<"void">
  | { readonly kind: "if"; condition: Value<"i32">; body: Statement[]; otherwise: Statement[] }
  | { readonly kind: "loop"; body: Statement[] };

/** A defined function, to be called from a later one. */
export interface Callable<R extends ValueType | "void" = ValueType | "void"> {
  readonly name: string;
  readonly index: number;
  readonly parameters: readonly ValueType[];
  readonly result: R;
}

export type Parameters = Readonly<Record<string, ValueType>>;
export type ParameterLocals<P extends Parameters> = { readonly [K in keyof P]: Local<P[K]> };

/** Where vector constants live: gives the address of 16 bytes. */
export interface ConstantTable {
  constant(bytes: readonly number[]): number;
}

const GET: readonly number[] = [0x20];
const SET: readonly number[] = [0x21];
const STORES = {
  v128: { type: "v128", name: "v128.store", code: [0xfd, 0x0b], align: 4 },
  f32: { type: "f32", name: "f32.store", code: [0x38], align: 2 },
  i32: { type: "i32", name: "i32.store", code: [0x36], align: 2 },
  i64: { type: "i64", name: "i64.store", code: [0x37], align: 3 },
  i16: { type: "i32", name: "i32.store16", code: [0x3b], align: 1 },
  i8: { type: "i32", name: "i32.store8", code: [0x3a], align: 0 },
} as const;

/** The body of one function: each method appends a statement where it is called. */
export class FunctionBuilder {
  readonly locals: Local[] = [];
  readonly names: string[] = [];
  private readonly used = new Set<string>();
  readonly prologue: Statement[] = [];
  readonly body: Statement[] = [];
  private block: Statement[] = this.body;
  private readonly hoisted = new Map<string, Local<"v128">>();
  private readonly table: ConstantTable;

  constructor(table: ConstantTable) {
    this.table = table;
  }

  /** Declares a variable and, when an initial value is given, sets it here. */
  local<T extends ValueType>(type: T, initial?: Operand<T>, name?: string): Local<T> {
    const index = this.locals.length;
    const plain = `$${name ?? "t"}`;
    const label = name === undefined || this.used.has(plain) ? `${plain}${index}` : plain;
    this.used.add(label);
    const immediate = unsigned(index);
    const local = {
      type,
      name: "local.get",
      code: GET,
      operands: [],
      immediate,
      text: label,
      index,
    };
    this.locals.push(local);
    this.names.push(label);
    if (initial !== undefined) this.set(local, initial);
    return local;
  }

  set<T extends ValueType>(local: Local<T>, value: Operand<T>): void {
    this.block.push(assign(local, operand(local.type, value)));
  }

  /** Stores a value (i8 and i16 keep the low bits of an i32) at address + offset. */
  store<K extends keyof typeof STORES>(
    kind: K,
    address: Operand<"i32">,
    value: Operand<(typeof STORES)[K]["type"]>,
    offset = 0,
  ): void {
    const { type, name, code, align } = STORES[kind];
    const operands = [operand("i32", address), operand(type, value as Operand<ValueType>)];
    const text = offsetText(offset);
    this.block.push(node("void", name, code, operands, memarg(align, offset), text));
  }

  /** Sets `count` bytes at an address to one byte value. */
  fill(address: Operand<"i32">, byte: Operand<"i32">, count: Operand<"i32">): void {
    const operands = [address, byte, count].map((x) => operand("i32", x));
    this.block.push(node("void", "memory.fill", [0xfc, 0x0b], operands, [0]));
  }

  /** Copies `count` bytes; the two ranges may overlap. */
  copy(to: Operand<"i32">, from: Operand<"i32">, count: Operand<"i32">): void {
    const operands = [to, from, count].map((x) => operand("i32", x));
    this.block.push(node("void", "memory.copy", [0xfc, 0x0a], operands, [0, 0]));
  }

  if(condition: Value<"i32">, then: () => void, otherwise?: () => void): void {
    const body = this.nested(then);
    this.block.push({ kind: "if", condition, body, otherwise: this.nested(otherwise) });
  }

  /** Repeats the body while the condition holds; it is tested again after each turn. */
  while(condition: Value<"i32">, body: () => void): void {
    this.if(condition, () => this.doWhile(body, condition));
  }

  /** Repeats the body, at least once. */
  doWhile(body: () => void, condition: Value<"i32">): void {
    const statements = this.nested(body);
    statements.push(node("void", "br_if", [0x0d], [condition], [0], "0"));
    this.block.push({ kind: "loop", body: statements });
  }

  /** for (i = from; i < to; i += step), unsigned. `to` is evaluated each turn: give a local. */
  for(
    i: Local<"i32">,
    from: Operand<"i32">,
    to: Operand<"i32">,
    step: Operand<"i32">,
    body: () => void,
  ): void {
    if (from !== i) this.set(i, from);
    this.while(i32.ltU(i, to), () => {
      body();
      this.set(i, i32.add(i, step));
    });
  }

  /** A call as a value; of a function without a result, a statement. */
  call<R extends ValueType | "void">(callee: Callable<R>, ...args: Operand<ValueType>[]): Value<R> {
    const { name, index, parameters, result } = callee;
    if (args.length !== parameters.length) {
      throw new TypeError(`${name} takes ${parameters.length} arguments, got ${args.length}`);
    }
    const operands = args.map((arg, at) => operand(parameters[at]!, arg));
    const call = node(result, "call", [0x10], operands, unsigned(index), `$${name}`);
    if (call.type === "void") this.block.push(call as Value<"void">);
    return call;
  }

  /** Evaluates a value for its effect only. */
  drop(value: Value): void {
    this.block.push(node("void", "drop", [0x1a], [value]));
  }

  /** Leaves the function, with its result where it has one. */
  return(value?: Value): void {
    this.block.push(node("void", "return", [0x0f], value === undefined ? [] : [value]));
  }

  /** Ends the call with a trap: a RuntimeError in JS. */
  trap(): void {
    this.block.push(node("void", "unreachable", [0x00]));
  }

  /**
   * The local that holds a vector constant. Engines rebuild a constant at each use, even in loops,
   * so it is loaded once, from the module's constant table, when the function is entered.
   */
  constant(value: Value): Local<"v128"> {
    let local = this.hoisted.get(value.text);
    if (local === undefined) {
      local = this.local("v128", undefined, "c");
      this.hoisted.set(value.text, local);
      const address = this.table.constant(value.immediate);
      this.prologue.push(assign(local, v128.load(i32.const(0), address)));
    }
    return local;
  }

  private nested(emit: (() => void) | undefined): Statement[] {
    const outer = this.block;
    const inner: Statement[] = [];
    this.block = inner;
    emit?.();
    this.block = outer;
    return inner;
  }
}

const assign = (local: Local, value: Value): Value<"void"> =>
  node("void", "local.set", SET, [value], local.immediate, local.text);

/** Zero stays inline (one xor); every other vector constant is read from its local. */
const isHoisted = (value: Value): boolean =>
  value.name === "v128.const" && value.immediate.some((byte) => byte !== 0);

/** What is emitted for a node of the tree. */
export const lowered = (value: Value, builder: FunctionBuilder): Value =>
  isHoisted(value) ? builder.constant(value) : value;
