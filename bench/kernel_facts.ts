/** What is known of an emitted kernel: its file, size, locals, register tile, and what it calls. */

import {
  FunctionBuilder,
  ModuleBuilder,
  type Statement,
  type Value,
} from "../tensor/device/wasm/assembler.ts";

const SPLAT = "v128.load32_splat";

/** Rows x columns of results that a loop keeps in registers. */
export interface Tile {
  readonly rows: number;
  readonly columns: number;
}

export interface KernelFacts {
  readonly name: string;
  /** The source file that emits it. */
  readonly family: string;
  /** Bytes of its code in the module. */
  readonly bytes: number;
  /** Of a micro-kernel. */
  readonly tile?: Tile;
  readonly parameters: number;
  /** Locals besides the parameters, by type. */
  readonly locals: Readonly<Record<string, number>>;
  readonly calls: readonly string[];
  readonly wat: string;
}

/** A module under construction, and the file that emitted each of its kernels. */
export interface Capture {
  readonly builder: ModuleBuilder;
  readonly families: Map<string, string>;
}

/** Notes every kernel that `body` defines, module by module. */
export function captured(body: () => void): Capture[] {
  const captures = new Map<ModuleBuilder, Capture>();
  const { function: define } = ModuleBuilder.prototype;
  const statements = FunctionBuilder.prototype as unknown as Record<string, Method>;
  const originals = STATEMENTS.map((method) => [method, statements[method]!] as const);
  let seen: string[][] = [];
  for (const [method, original] of originals) {
    statements[method] = function (this: FunctionBuilder, ...args) {
      if (seen.length < MOST_STACKS) seen.push(emittingFiles());
      return original.apply(this, args);
    };
  }
  ModuleBuilder.prototype.function = function (this: ModuleBuilder, name, types, emit, ...rest) {
    const capture = captures.get(this) ?? { builder: this, families: new Map() };
    captures.set(this, capture);
    const watched: typeof emit = (f, parameters) => {
      seen = [];
      emit(f, parameters);
      capture.families.set(name, familyOf(seen));
    };
    return define.call(this, name, types, watched as never, ...rest) as never;
  };
  try {
    body();
  } finally {
    ModuleBuilder.prototype.function = define;
    Object.assign(statements, Object.fromEntries(originals));
  }
  return [...captures.values()];
}

type Method = (this: FunctionBuilder, ...args: unknown[]) => unknown;
const STATEMENTS = ["local", "set", "store", "fill", "copy", "if", "for", "call"] as const;
/** Stacks looked at in each kernel: some engines leave out callers that end with the call. */
const MOST_STACKS = 12;
const HERE = "bench/kernel_facts.ts";

/** The files on the call stack between the assembler's caller and the kernel's own function. */
function emittingFiles(): string[] {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 50;
  const { stack = "" } = new Error();
  Error.stackTraceLimit = limit;
  const files = [...stack.matchAll(/\b((?:tensor|bench)\/[\w/]+\.ts)/g)].map(([, file]) => file!);
  const inner = files.slice(files.findIndex((file) => file !== HERE));
  const end = inner.indexOf(HERE);
  return inner.slice(0, end < 0 ? inner.length : end);
}

/** The op's file where there is one, else the one that holds the kernel's own function. */
function familyOf(stacks: readonly (readonly string[])[]): string {
  const files = stacks.map((stack) => stack.filter((file) => !file.endsWith("/function.ts")));
  const ofOps = files.flatMap((stack) => {
    return stack.findLast((file) => file.startsWith("tensor/ops/")) ?? [];
  });
  return ofOps[0] ?? files.find((stack) => stack.length > 0)?.at(-1) ?? "unknown";
}

/** The facts of every kernel of a module. */
export function factsOf({ builder, families }: Capture): KernelFacts[] {
  return builder.functions.map(({ name, parameters, code, builder: f }) => {
    const tile = tileOf(f);
    const locals: Record<string, number> = {};
    for (const { type } of f.locals.slice(parameters.length)) {
      locals[type] = (locals[type] ?? 0) + 1;
    }
    return {
      ...{ name, family: families.get(name)!, bytes: code.length },
      ...(tile && { tile }),
      ...{ parameters: parameters.length, locals, calls: callsOf(f), wat: builder.wat(name) },
    };
  });
}

/** Blocks of statements, outermost first: the body, then those of ifs and loops. */
function blocks(list: readonly Statement[]): (readonly Statement[])[] {
  const inner = list.flatMap((statement) => {
    if (!("kind" in statement)) return [];
    return [statement.body, ...(statement.kind === "if" ? [statement.otherwise] : [])];
  });
  return [list, ...inner.flatMap(blocks)];
}

/** Every kernel that a function calls, in order of first appearance. */
function callsOf({ body }: FunctionBuilder): string[] {
  const names = new Set<string>();
  const visit = ({ name, text, operands }: Value) => {
    if (name === "call") names.add(text.slice(1));
    operands.forEach(visit);
  };
  for (const statement of blocks(body).flat()) {
    if (!("kind" in statement)) visit(statement);
    else if (statement.kind === "if") visit(statement.condition);
  }
  return [...names];
}

/** The largest tile that a block of a kernel updates. */
function tileOf({ body }: FunctionBuilder): Tile | undefined {
  const lists = blocks(body);
  const splats = splatsOf(lists.flat());
  const tiles = lists.flatMap((list) => stepTile(list, splats) ?? []);
  return tiles.sort((a, b) => b.rows * b.columns - a.rows * a.columns)[0];
}

/** Locals that only ever hold a splat: a loop may use those that were loaded before it. */
function splatsOf(statements: readonly Statement[]): Set<string> {
  const [splats, others] = [new Set<string>(), new Set<string>()];
  for (const statement of statements) {
    if ("kind" in statement || statement.name !== "local.set") continue;
    const isSplat = statement.operands[0]!.name === SPLAT;
    (isSplat ? splats : others).add(statement.text);
  }
  return new Set([...splats].filter((name) => !others.has(name)));
}

/**
 * The tile of one step: sums += p q, where p and q run over all pairs of two sets. Of a splatted p
 * each is a row and every q four columns; of vectors by vectors (dot products) each sum is one
 * result. Undefined where the first multiply-adds of a block are not such an outer product.
 */
function stepTile(list: readonly Statement[], splats: ReadonlySet<string>): Tile | undefined {
  const versions = new Map<string, Value>();
  const sums = new Set<string>();
  const sides = [new Map<Value | string, boolean>(), new Map<Value | string, boolean>()] as const;
  for (const statement of list) {
    if ("kind" in statement || statement.name !== "local.set") continue;
    const factors = multiplyAdd(statement);
    if (factors === undefined) {
      versions.set(statement.text, statement.operands[0]!);
      continue;
    }
    if (sums.has(statement.text)) break;
    sums.add(statement.text);
    factors.forEach((factor, side) => {
      const isLocal = factor.name === "local.get";
      const set = isLocal ? versions.get(factor.text) : factor;
      const isSplat = set === undefined ? splats.has(factor.text) : set.name === SPLAT;
      sides[side]!.set((isLocal && set) || describe(factor), isSplat);
    });
  }
  const [p, q] = sides;
  if (sums.size === 0 || p.size * q.size !== sums.size) return undefined;
  if ([...p.values()].every(Boolean)) return { rows: p.size, columns: 4 * q.size };
  if ([...q.values()].every(Boolean)) return { rows: q.size, columns: 4 * p.size };
  return sums.size < 4 ? undefined : { rows: p.size, columns: q.size };
}

/** p and q of `sum = p q + sum`, fused or not. */
function multiplyAdd({ text: sum, operands: [value] }: Value): readonly Value[] | undefined {
  if (value === undefined) return undefined;
  const isSum = ({ name, text }: Value) => name === "local.get" && text === sum;
  const { name, operands } = value;
  if (name === "f32x4.relaxed_madd") return isSum(operands[2]!) ? operands.slice(0, 2) : undefined;
  if (name !== "f32x4.add" || !operands.some(isSum)) return undefined;
  return operands.find((operand) => operand.name === "f32x4.mul")?.operands;
}

const describe = ({ name, text, operands }: Value): string =>
  `${name} ${text} ${operands.map(describe).join(" ")}`;
