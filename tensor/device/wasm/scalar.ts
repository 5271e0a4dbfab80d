/** A row's scalar expression as SIMD: four elements at once, each subtree computed once. */

import type { BinaryName, Expression, UnaryName } from "../../expression.ts";
import { type FunctionBuilder, f32x4, i32x4, type Value, v128 } from "./assembler.ts";
import { cos4, exp4, log4, sigmoid4, sin4, tanh4 } from "./math.ts";

type Vector = Value<"v128">;
type Emit = (f: FunctionBuilder, ...operands: Vector[]) => Vector;

const f32Unary: Record<UnaryName, Emit> = {
  neg: (_, x) => f32x4.neg(x),
  abs: (_, x) => f32x4.abs(x),
  sign: (_, x) => {
    const one = (where: Vector) => v128.and(where, f32x4.const(1));
    // All bits set, where x is not equal to itself, are a NaN too.
    return v128.or(f32x4.sub(one(f32x4.gt(x, 0)), one(f32x4.lt(x, 0))), f32x4.ne(x, x));
  },
  exp: exp4,
  log: log4,
  sqrt: (_, x) => f32x4.sqrt(x),
  sin: sin4,
  cos: cos4,
  tanh: tanh4,
  sigmoid: sigmoid4,
  floor: (_, x) => f32x4.floor(x),
  toF32: (_, x) => x,
  toI32: (_, x) => i32x4.truncSatF32S(x),
  toBool: (_, x) => f32x4.ne(x, 0),
};

const unsupported =
  (name: string): Emit =>
  () => {
    throw new Error(`expression: ${name} is not defined for this dtype`);
  };

const i32Unary: Partial<Record<UnaryName, Emit>> = {
  neg: (_, x) => i32x4.neg(x),
  abs: (_, x) => i32x4.abs(x),
  toF32: (_, x) => f32x4.convertI32S(x),
  toI32: (_, x) => x,
  toBool: (_, x) => i32x4.ne(x, 0),
};

// A bool is a mask inside of a kernel (all bits set = true), and 0 or 1 in memory.
const boolUnary: Partial<Record<UnaryName, Emit>> = {
  toF32: (_, x) => v128.and(x, f32x4.const(1)),
  toI32: (_, x) => v128.and(x, i32x4.const(1)),
  toBool: (_, x) => x,
};

const f32Binary: Partial<Record<BinaryName, Emit>> = {
  add: (_, a, b) => f32x4.add(a, b),
  sub: (_, a, b) => f32x4.sub(a, b),
  mul: (_, a, b) => f32x4.mul(a, b),
  div: (_, a, b) => f32x4.div(a, b),
  min: (_, a, b) => f32x4.min(a, b),
  max: (_, a, b) => f32x4.max(a, b),
  less: (_, a, b) => f32x4.lt(a, b),
  lessEqual: (_, a, b) => f32x4.le(a, b),
  equal: (_, a, b) => f32x4.eq(a, b),
};

const i32Binary: Partial<Record<BinaryName, Emit>> = {
  add: (_, a, b) => i32x4.add(a, b),
  sub: (_, a, b) => i32x4.sub(a, b),
  mul: (_, a, b) => i32x4.mul(a, b),
  min: (_, a, b) => i32x4.minS(a, b),
  max: (_, a, b) => i32x4.maxS(a, b),
  less: (_, a, b) => i32x4.ltS(a, b),
  lessEqual: (_, a, b) => i32x4.leS(a, b),
  equal: (_, a, b) => i32x4.eq(a, b),
};

const boolBinary: Partial<Record<BinaryName, Emit>> = {
  and: (_, a, b) => v128.and(a, b),
  or: (_, a, b) => v128.or(a, b),
  equal: (_, a, b) => i32x4.eq(a, b),
};

const unaryTable = { f32: f32Unary, i32: i32Unary, bool: boolUnary };
const binaryTable = { f32: f32Binary, i32: i32Binary, bool: boolBinary };

/** Emits expressions over four elements of each input; `inputs` hold them as they lie in memory. */
export function scalarEmitter(f: FunctionBuilder, inputs: readonly Vector[]) {
  const done = new Map<Expression, Vector>();
  const compute = ({ node, dtype }: Expression): Vector => {
    switch (node.kind) {
      case "input":
        return dtype === "bool" ? i32x4.ne(inputs[node.index]!, 0) : inputs[node.index]!;
      case "constant":
        if (dtype === "f32") return f32x4.const(node.value);
        return i32x4.const(dtype === "bool" ? -Number(node.value !== 0) : node.value);
      case "unary": {
        const emit = unaryTable[node.x.dtype][node.name] ?? unsupported(node.name);
        return emit(f, visit(node.x));
      }
      case "binary": {
        const emit = binaryTable[node.a.dtype][node.name] ?? unsupported(node.name);
        return emit(f, visit(node.a), visit(node.b));
      }
      case "where":
        return v128.bitselect(visit(node.a), visit(node.b), visit(node.condition));
    }
  };
  const visit = (expression: Expression): Vector => {
    let value = done.get(expression);
    if (value === undefined) {
      const { kind } = expression.node;
      const computed = compute(expression);
      value = kind === "constant" ? computed : f.local("v128", computed);
      done.set(expression, value);
    }
    return value;
  };
  /** The value as it is stored. */
  return (expression: Expression): Vector => {
    const value = visit(expression);
    return expression.dtype === "bool" ? v128.and(value, i32x4.const(1)) : value;
  };
}
