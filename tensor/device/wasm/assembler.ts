/** The module builder: kernels in, WebAssembly bytes or readable text out. */
import type { Callable, ParameterLocals, Parameters, Statement } from "./function.ts";
import { FunctionBuilder, lowered } from "./function.ts";
import { i32 } from "./opcodes.ts";
import { functionText, moduleText } from "./text.ts";
import type { Value, ValueType } from "./tree.ts";
import { unsigned } from "./tree.ts";

export * from "./function.ts";
export * from "./opcodes.ts";
export type { Operand, Value, ValueType } from "./tree.ts";

const TYPE_BYTE: Record<ValueType, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, v128: 0x7b };

interface DefinedFunction extends Callable {
  readonly builder: FunctionBuilder;
  readonly code: Uint8Array;
}

const CONSTANTS_START = 16;
/** Addresses below this one belong to the constant table. */
export const CONSTANTS_END = 32768;

/** A module of exported functions over one shared memory (import env.memory). */
export class ModuleBuilder {
  readonly functions: DefinedFunction[] = [];
  private readonly byName = new Map<string, DefinedFunction>();
  private readonly constants: number[] = [];
  private readonly constantAddress = new Map<string, number>();

  /**
   * Defines and exports a function. `emit` receives the builder and the parameters as locals; a
   * function with a result must end with `return`.
   */
  function<const P extends Parameters, R extends ValueType | "void" = "void">(
    name: string,
    parameters: P,
    emit: (f: FunctionBuilder, parameters: ParameterLocals<P>) => void,
    result: R = "void" as R,
  ): Callable<R> {
    if (this.byName.has(name)) throw new Error(`function "${name}" is defined twice`);
    const builder = new FunctionBuilder(this);
    const entries = Object.entries(parameters);
    const locals = entries.map(([key, type]) => [key, builder.local(type, undefined, key)]);
    emit(builder, Object.fromEntries(locals) as ParameterLocals<P>);
    const types = entries.map(([, type]) => type);
    const code = encodeFunction(builder, types.length, result);
    const index = this.functions.length;
    const defined = { name, index, parameters: types, result, builder, code };
    this.functions.push(defined);
    this.byName.set(name, defined);
    return defined;
  }

  /** Address of 16 bytes in the constant table. */
  constant(bytes: readonly number[]): number {
    const key = bytes.join();
    let address = this.constantAddress.get(key);
    if (address === undefined) {
      address = CONSTANTS_START + this.constants.length;
      if (address + 16 > CONSTANTS_END) throw new Error("the constant table is full (32 KiB)");
      for (const byte of bytes) this.constants.push(byte);
      this.constantAddress.set(key, address);
    }
    return address;
  }

  /** The binary module. */
  bytes(): Uint8Array<ArrayBuffer> {
    const out = new Writer();
    out.push(0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0);
    const vector = (items: readonly (readonly number[])[]) => [
      ...unsigned(items.length),
      ...items.flat(),
    ];
    const text = (name: string) => {
      const utf8 = [...new TextEncoder().encode(name)];
      return [...unsigned(utf8.length), ...utf8];
    };
    const section = (id: number, content: readonly number[]) => {
      out.push(id, ...unsigned(content.length));
      out.append(content);
    };
    const signatures = new Map<string, number>();
    const types: number[][] = [];
    const typeOf = this.functions.map(({ parameters, result }) => {
      const inputs = parameters.map((type) => [TYPE_BYTE[type]]);
      const type = [
        0x60,
        ...vector(inputs),
        ...vector(result === "void" ? [] : [[TYPE_BYTE[result]]]),
      ];
      const key = type.join();
      if (!signatures.has(key)) signatures.set(key, types.push(type) - 1);
      return signatures.get(key)!;
    });
    section(1, vector(types));
    const memory = [...text("env"), ...text("memory"), 2, 3, ...unsigned(1), ...unsigned(65536)];
    section(2, vector([memory, [...text("env"), ...text("scratch"), 3, 0x7f, 0]]));
    section(3, vector(typeOf.map(unsigned)));
    section(
      7,
      vector(this.functions.map(({ name, index }) => [...text(name), 0, ...unsigned(index)])),
    );
    const count = unsigned(this.functions.length);
    const size = this.functions.reduce((sum, { code }) => sum + code.length, count.length);
    out.push(10, ...unsigned(size), ...count);
    for (const { code } of this.functions) out.append(code);
    const offset = [
      0,
      ...i32.const(CONSTANTS_START).code,
      ...i32.const(CONSTANTS_START).immediate,
      0x0b,
    ];
    if (this.constants.length > 0) {
      section(11, [1, ...offset, ...unsigned(this.constants.length), ...this.constants]);
    }
    return out.bytes();
  }

  /** The module, or one of its functions, in the WebAssembly text format. */
  wat(name?: string): string {
    if (name === undefined) {
      return moduleText(this.functions.map(functionText), CONSTANTS_START, this.constants);
    }
    const found = this.byName.get(name);
    if (found === undefined) throw new Error(`no function "${name}" in this module`);
    return functionText(found);
  }
}

/** Bytes in a buffer that doubles when it is full. */
class Writer {
  private buffer = new Uint8Array(1024);
  private length = 0;

  push(...bytes: readonly number[]): void {
    this.append(bytes);
  }

  append(bytes: ArrayLike<number>): void {
    if (bytes.length === 0) return;
    const end = this.length + bytes.length;
    if (end > this.buffer.length) {
      const larger = new Uint8Array(Math.max(end, 2 * this.buffer.length));
      larger.set(this.buffer.subarray(0, this.length));
      this.buffer = larger;
    }
    if (bytes.length > 16) this.buffer.set(bytes, this.length);
    else for (let at = 0; at < bytes.length; at++) this.buffer[this.length + at] = bytes[at]!;
    this.length = end;
  }

  bytes(): Uint8Array<ArrayBuffer> {
    return this.buffer.slice(0, this.length);
  }
}

/** Size, local declarations, prologue and body of a function. */
function encodeFunction(
  builder: FunctionBuilder,
  parameters: number,
  result: ValueType | "void",
): Uint8Array {
  const body = new Writer();
  encodeStatements(builder.body, builder, body);
  // A function with a result leaves by `return`; the end of its body is never reached.
  if (result !== "void") body.push(0x00);
  body.push(0x0b);
  const start = new Writer();
  encodeStatements(builder.prologue, builder, start);
  const runs: { type: ValueType; count: number }[] = [];
  for (const { type } of builder.locals.slice(parameters)) {
    const last = runs.at(-1);
    if (last?.type === type) last.count++;
    else runs.push({ type, count: 1 });
  }
  const header = [...unsigned(runs.length)];
  for (const { type, count } of runs) header.push(...unsigned(count), TYPE_BYTE[type]);
  const [first, rest] = [start.bytes(), body.bytes()];
  const out = new Writer();
  out.append(unsigned(header.length + first.length + rest.length));
  out.append(header);
  out.append(first);
  out.append(rest);
  return out.bytes();
}

function encodeStatements(list: readonly Statement[], builder: FunctionBuilder, out: Writer): void {
  for (const statement of list) {
    if (!("kind" in statement)) {
      encodeValue(statement, builder, out);
    } else if (statement.kind === "loop") {
      out.push(0x03, 0x40);
      encodeStatements(statement.body, builder, out);
      out.push(0x0b);
    } else {
      encodeValue(statement.condition, builder, out);
      out.push(0x04, 0x40);
      encodeStatements(statement.body, builder, out);
      if (statement.otherwise.length > 0) {
        out.push(0x05);
        encodeStatements(statement.otherwise, builder, out);
      }
      out.push(0x0b);
    }
  }
}

function encodeValue(tree: Value, builder: FunctionBuilder, out: Writer): void {
  const value = lowered(tree, builder);
  for (const child of value.operands) encodeValue(child, builder, out);
  out.append(value.code);
  out.append(value.immediate);
}
