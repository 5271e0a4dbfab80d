/** The kernel of an elementwise row, emitted from its expression; and about what it costs. */

import type { DType } from "../../dtype.ts";
import { Expression, type ScalarType, scalarType, type UnaryName } from "../../expression.ts";
import type { Definition } from "../../op.ts";
import { parseSignature } from "../../signature.ts";
import {
  type FunctionBuilder,
  i32,
  type Local,
  type ModuleBuilder,
  scratch,
  v128,
} from "./assembler.ts";
import { scalarEmitter } from "./scalar.ts";

/** A row whose kernel comes from its expression. */
export type Expressed = Definition & {
  readonly expression: (...inputs: Expression[]) => Expression | readonly Expression[];
};
export const isExpressed = (definition: Definition): definition is Expressed =>
  "expression" in definition && definition.expression !== undefined;

/** The types that "T" stands for: one kernel each; f16 arrives as f32. */
const variants = ({ types }: Definition): readonly ScalarType[] =>
  types?.inputs.includes("T") ? (types.T ?? ["f32"]).filter((T) => T !== "f16") : ["f32"];

export const kernelName = (name: string, T: DType): string => `${T}_${name}`;

export function emitElementwise(m: ModuleBuilder, definition: Expressed): void {
  for (const T of variants(definition)) emitVariant(m, definition, T);
}

/** The formula on symbols: how many inputs, and a tree for each output. */
function formula(definition: Expressed, T: ScalarType): { inputs: number; results: Expression[] } {
  const { inputs } = parseSignature(definition.shape as string);
  const symbols = inputs.map((_, i) => {
    const dtype = definition.types?.inputs[i] ?? "f32";
    return Expression.input(i, dtype === "T" ? T : dtype === "real" ? "f32" : scalarType(dtype));
  });
  const results = [definition.expression(...symbols)].flat() as Expression[];
  return { inputs: inputs.length, results };
}

type I32 = Local<"i32">;

/** Vectors a turn of a cheap formula; one with an exponential fills the registers by itself. */
const UNROLL = 4;

/** Rows of columns: of each input the bytes from row to row and from vector to vector, 16 or 0. */
function emitVariant(m: ModuleBuilder, definition: Expressed, T: ScalarType): void {
  const { inputs, results } = formula(definition, T);
  const parameters: Record<string, "i32"> = {};
  for (let i = 0; i < inputs; i++) {
    for (const name of ["in", "row", "step"]) parameters[`${name}${i}`] = "i32";
  }
  for (const k of results.keys()) parameters[`out${k}`] = "i32";
  Object.assign(parameters, { cols: "i32", total: "i32", begin: "i32", end: "i32" });
  const unroll = heavyParts(results) > 0 ? 1 : UNROLL;
  m.function(kernelName(definition.name, T), parameters, (f, p) => {
    const at = (name: string) => p[name]!;
    const row = f.local("i32", at("begin"), "row");
    const sources = Array.from({ length: inputs }, (_, i) => f.local("i32", undefined, `p${i}`));
    const targets = results.map((_, k) => f.local("i32", undefined, `q${k}`));
    const steps = sources.map((_, i) => at(`step${i}`));
    f.for(row, row, at("end"), 1, () => {
      const first = f.local("i32", i32.mul(row, at("cols")), "first");
      sources.forEach((source, i) => {
        f.set(source, i32.add(at(`in${i}`), i32.mul(row, at(`row${i}`))));
        f.if(i32.eqz(steps[i]!), () => repeat(f, source, i, unroll));
      });
      targets.forEach((target, k) => {
        f.set(target, i32.add(at(`out${k}`), i32.shl(first, 2)));
      });
      const left = f.local("i32", i32.sub(at("total"), first), "left");
      f.if(i32.gtU(left, at("cols")), () => f.set(left, at("cols")));
      emitColumns(f, { sources, steps, targets, left, results, unroll });
    });
  });
}

interface Columns {
  readonly sources: readonly I32[];
  readonly steps: readonly I32[];
  readonly targets: readonly I32[];
  /** Elements that are still to do. */
  readonly left: I32;
  readonly results: readonly Expression[];
  readonly unroll: number;
}

function emitColumns(f: FunctionBuilder, columns: Columns): void {
  const { sources, steps, targets, left, results, unroll } = columns;
  const evaluate = (slot: number): Local<"v128">[] => {
    const loaded = sources.map((source) => f.local("v128", v128.load(source, 16 * slot)));
    const emit = scalarEmitter(f, loaded);
    return results.map((result) => f.local("v128", emit(result)));
  };
  const turns = (vectors: number) =>
    f.while(i32.geS(left, 4 * vectors), () => {
      for (let slot = 0; slot < vectors; slot++) {
        const values = evaluate(slot);
        for (const [k, value] of values.entries()) f.store("v128", targets[k]!, value, 16 * slot);
      }
      sources.forEach((source, i) => {
        f.set(source, i32.add(source, vectors === 1 ? steps[i]! : i32.mul(steps[i]!, vectors)));
      });
      for (const target of targets) f.set(target, i32.add(target, 16 * vectors));
      f.set(left, i32.sub(left, 4 * vectors));
    });
  if (unroll > 1) turns(unroll);
  turns(1);
  f.if(left, () => storePart(f, targets, evaluate(0), left));
}

/** Points an input that is one element for the whole row at copies of it, one for each vector. */
function repeat(f: FunctionBuilder, source: I32, i: number, vectors: number): void {
  const slot = f.local("i32", i32.add(scratch, 16 * UNROLL * i), "slot");
  const value = f.local("v128", v128.load32Splat(source), "value");
  for (let k = 0; k < vectors; k++) f.store("v128", slot, value, 16 * k);
  f.set(source, slot);
}

/** Stores the 1 to 3 elements of a row's end, through scratch, and nothing behind them. */
function storePart(
  f: FunctionBuilder,
  targets: readonly I32[],
  values: readonly Local<"v128">[],
  left: I32,
): void {
  const spare = f.local("i32", i32.add(scratch, 1024), "spare");
  targets.forEach((target, k) => {
    f.store("v128", spare, values[k]!);
    f.copy(target, spare, i32.shl(left, 2));
  });
}

const HEAVY: readonly UnaryName[] = ["exp", "log", "sin", "cos", "tanh", "sigmoid"];

/** How many polynomials the results are made of; a shared subtree counts once. */
function heavyParts(results: readonly Expression[]): number {
  const seen = new Set<Expression>();
  const visit = (expression: Expression): number => {
    if (seen.has(expression)) return 0;
    seen.add(expression);
    const { node } = expression;
    if (node.kind === "unary") return Number(HEAVY.includes(node.name)) + visit(node.x);
    if (node.kind === "binary") return visit(node.a) + visit(node.b);
    if (node.kind === "where") return visit(node.condition) + visit(node.a) + visit(node.b);
    return 0;
  };
  return results.reduce((sum, result) => sum + visit(result), 0);
}

/** Nanoseconds per element of an array that is read or written, and of a polynomial. */
const MOVE_COST = 0.08;
const HEAVY_COST = 0.8;

const costs = new Map<Expressed, number>();

/** Rough nanoseconds per element of a row's kernel. */
export function elementCost(definition: Expressed): number {
  const known = costs.get(definition);
  if (known !== undefined) return known;
  const { inputs, results } = formula(definition, variants(definition)[0]!);
  const cost = MOVE_COST * (inputs + results.length) + HEAVY_COST * heavyParts(results);
  costs.set(definition, cost);
  return cost;
}
