/** The elementwise family: arithmetic, comparisons, and the functions of one number. */

import { Expression } from "../expression.ts";
import {
  type Binary,
  type Call,
  elementwise,
  missing,
  type Operand,
  type Types,
  type Unary,
} from "../op.ts";
import type { Tensor } from "../tensor.ts";

const number: Types = { inputs: ["T", "T"], outputs: ["T"], T: ["f32", "i32"] };
const comparison: Types = { inputs: ["T", "T"], outputs: ["bool"], T: ["f32", "i32"] };
const logical: Types = { inputs: ["bool", "bool"], outputs: ["bool"] };
/** Piecewise constant: the gradient is zero almost everywhere. */
const flat = (g: Tensor): [Tensor] => [g.mul(0)];
const integer = missing("the result is not a real number");

/** a + b. */
export const add: Binary = elementwise({
  types: number,
  scalar: (a, b) => a + b,
  expression: (a, b) => a.add(b),
  vjp: (g) => [g, g],
  keeps: "nothing",
});

/** a - b. */
export const sub: Binary = elementwise({
  types: number,
  scalar: (a, b) => a - b,
  expression: (a, b) => a.sub(b),
  vjp: (g) => [g, g.neg()],
  keeps: "nothing",
});

/** a · b. */
export const mul: Binary = elementwise({
  types: number,
  scalar: (a, b) => a * b,
  expression: (a, b) => a.mul(b),
  vjp: (g, [a, b]) => [g.mul(b!), g.mul(a!)],
});

/** a / b. */
export const div: Binary = elementwise({
  scalar: (a, b) => a / b,
  expression: (a, b) => a.div(b),
  // Not g·a/b²: b² overflows, or is 0, where a/b is an ordinary number.
  vjp: (g, [a, b]) => {
    const slope = g.div(b!);
    return [slope, slope.mul(a!.div(b!)).neg()];
  },
  domain: [0.5, 2],
  extremes: [1e-3, 1, 1e3],
});

/** The larger of a and b; at a tie each gets half of the gradient. */
export const maximum: Binary = elementwise({
  types: number,
  scalar: (a, b) => Math.max(a, b),
  expression: (a, b) => a.max(b),
  vjp: (g, [a, b]) => shares(g, b!.less(a!), a!.equal(b!)),
});

/** The smaller of a and b; at a tie each gets half of the gradient. */
export const minimum: Binary = elementwise({
  types: number,
  scalar: (a, b) => Math.min(a, b),
  expression: (a, b) => a.min(b),
  vjp: (g, [a, b]) => shares(g, a!.less(b!), a!.equal(b!)),
});

function shares(g: Tensor, first: Tensor, tie: Tensor): [Tensor, Tensor] {
  const weight = first.toF32().add(tie.toF32().mul(0.5));
  return [g.mul(weight), g.mul(weight.neg().add(1))];
}

/** min(max(x, low), high); the bounds themselves pass the gradient on. */
export const clamp: Call<[x: Tensor, low: Operand, high: Operand]> = elementwise({
  scalar: (x, low, high) => Math.min(Math.max(x, low), high),
  expression: (x, low, high) => x.max(low).min(high),
  vjp: (g, [x, low, high]) => {
    const inside = low!.lessEqual(x!).logicalAnd(x!.lessEqual(high!));
    const below = x!.less(low!).logicalAnd(low!.less(high!));
    const above = inside.logicalOr(below).logicalNot();
    return [inside.where(g, 0), below.where(g, 0), above.where(g, 0)];
  },
});

/** a < b. */
export const less: Binary = elementwise({
  types: comparison,
  scalar: (a, b) => Number(a < b),
  expression: (a, b) => a.less(b),
  vjp: integer,
});

/** a <= b. */
export const lessEqual: Binary = elementwise({
  types: comparison,
  scalar: (a, b) => Number(a <= b),
  expression: (a, b) => a.lessEqual(b),
  vjp: integer,
});

/** a > b. */
export const greater: Binary = elementwise({
  types: comparison,
  scalar: (a, b) => Number(a > b),
  expression: (a, b) => b.less(a),
  vjp: integer,
});

/** a >= b. */
export const greaterEqual: Binary = elementwise({
  types: comparison,
  scalar: (a, b) => Number(a >= b),
  expression: (a, b) => b.lessEqual(a),
  vjp: integer,
});

/** a = b. */
export const equal: Binary = elementwise({
  types: comparison,
  scalar: (a, b) => Number(a === b),
  expression: (a, b) => a.equal(b),
  vjp: integer,
});

/** a and b. */
export const logicalAnd: Binary = elementwise({
  types: logical,
  scalar: (a, b) => Number(a !== 0 && b !== 0),
  expression: (a, b) => a.and(b),
  vjp: integer,
});

/** a or b. */
export const logicalOr: Binary = elementwise({
  types: logical,
  scalar: (a, b) => Number(a !== 0 || b !== 0),
  expression: (a, b) => a.or(b),
  vjp: integer,
});

/** not x. */
export const logicalNot: Unary = elementwise({
  types: { inputs: ["bool"], outputs: ["bool"] },
  scalar: (x) => Number(x === 0),
  expression: (x) => x.equal(0),
  vjp: integer,
});

/** condition ? a : b. What is not chosen gets gradient 0, even where it is infinite. */
export const where: Call<[condition: Tensor, a: Operand, b: Operand]> = elementwise({
  types: { inputs: ["bool", "T", "T"], outputs: ["T"], T: ["f32", "i32"] },
  scalar: (condition, a, b) => (condition !== 0 ? a : b),
  expression: (condition, a, b) => condition.where(a, b),
  vjp: (g, [condition]) => [null, condition!.where(g, 0), condition!.where(0, g)],
});

/** The same numbers as f32; true is 1. */
export const toF32: Unary = elementwise({
  types: { inputs: ["T"], outputs: ["f32"], T: ["f32", "i32", "bool", "f16"] },
  scalar: (x) => x,
  expression: (x) => x.to("f32"),
  vjp: (g) => [g],
  keeps: "nothing",
});

/** Rounded towards zero; |x| must be below 2³¹. */
export const toI32: Unary = elementwise({
  types: { inputs: ["T"], outputs: ["i32"], T: ["f32", "i32", "bool"] },
  scalar: (x) => Math.trunc(x),
  expression: (x) => x.to("i32"),
  vjp: integer,
});

/** x is not 0. */
export const toBool: Unary = elementwise({
  types: { inputs: ["T"], outputs: ["bool"], T: ["f32", "i32", "bool"] },
  scalar: (x) => Number(x !== 0),
  expression: (x) => x.to("bool"),
  vjp: integer,
});

/** -x. */
export const neg: Unary = elementwise({
  types: { inputs: ["T"], outputs: ["T"], T: ["f32", "i32"] },
  scalar: (x) => -x,
  expression: (x) => x.neg(),
  vjp: (g) => [g.neg()],
  keeps: "nothing",
});

/** |x|; gradient 0 at 0. */
export const abs: Unary = elementwise({
  scalar: (x) => Math.abs(x),
  expression: (x) => x.abs(),
  vjp: (g, [x]) => [g.mul(x!.sign())],
  kinks: [0],
});

/** -1, 0 or 1. */
export const sign: Unary = elementwise({
  scalar: (x) => Math.sign(x),
  expression: (x) => x.sign(),
  kinks: [0],
  vjp: flat,
  keeps: "nothing",
});

/** The largest whole number not above x. */
export const floor: Unary = elementwise({
  scalar: (x) => Math.floor(x),
  expression: (x) => x.floor(),
  kinks: [-2, -1, 0, 1, 2],
  vjp: flat,
  keeps: "nothing",
});

/** eˣ. */
export const exp: Unary = elementwise({
  scalar: (x) => Math.exp(x),
  expression: (x) => x.exp(),
  vjp: (g, _, { outputs: [y] }) => [g.mul(y!)],
  keeps: "outputs",
  extremes: [-1e3, 0, 80],
});

/** Natural logarithm. */
export const log: Unary = elementwise({
  scalar: (x) => Math.log(x),
  expression: (x) => x.log(),
  vjp: (g, [x]) => [g.div(x!)],
  domain: [0.1, 3],
  extremes: [1e-30, 1, 1e30],
});

/** √x. */
export const sqrt: Unary = elementwise({
  scalar: (x) => Math.sqrt(x),
  expression: (x) => x.sqrt(),
  vjp: (g, _, { outputs: [y] }) => [g.mul(0.5).div(y!)],
  keeps: "outputs",
  domain: [0.1, 3],
  extremes: [1e-6, 1, 1e6],
});

/** 1/√x. */
export const rsqrt: Unary = elementwise({
  scalar: (x) => 1 / Math.sqrt(x),
  expression: (x) => Expression.constant(1).div(x.sqrt()),
  vjp: (g, [x], { outputs: [y] }) => [g.mul(y!).div(x!).mul(-0.5)],
  keeps: "both",
  domain: [0.1, 3],
  extremes: [1e-6, 1, 1e6],
});

/** x². */
export const square: Unary = elementwise({
  scalar: (x) => x * x,
  expression: (x) => x.mul(x),
  vjp: (g, [x]) => [g.mul(x!).mul(2)],
});

/** sin x, |x| at most some 10⁴ for full accuracy. */
export const sin: Unary = elementwise({
  scalar: (x) => Math.sin(x),
  expression: (x) => x.sin(),
  vjp: (g, [x]) => [g.mul(x!.cos())],
});

/** cos x, |x| at most some 10⁴ for full accuracy. */
export const cos: Unary = elementwise({
  scalar: (x) => Math.cos(x),
  expression: (x) => x.cos(),
  vjp: (g, [x]) => [g.mul(x!.sin()).neg()],
});

/** Hyperbolic tangent. */
export const tanh: Unary = elementwise({
  scalar: (x) => Math.tanh(x),
  expression: (x) => x.tanh(),
  vjp: (g, _, { outputs: [y] }) => [g.mul(y!.square().neg().add(1))],
  keeps: "outputs",
});

/** 1/(1+e⁻ˣ). */
export const sigmoid: Unary = elementwise({
  scalar: (x) => 1 / (1 + Math.exp(-x)),
  expression: (x) => x.sigmoid(),
  vjp: (g, _, { outputs: [y] }) => [g.mul(y!).mul(y!.neg().add(1))],
  keeps: "outputs",
});

/** max(x, 0); gradient 0 at 0. */
export const relu: Unary = elementwise({
  scalar: (x) => Math.max(x, 0),
  expression: (x) => x.max(0),
  vjp: (g, [x]) => [x!.greater(0).where(g, 0)],
  kinks: [0],
});

/** x·sigmoid(x), https://arxiv.org/abs/1702.03118. */
export const silu: Unary = elementwise({
  scalar: (x) => x / (1 + Math.exp(-x)),
  expression: (x) => x.mul(x.sigmoid()),
  vjp: (g, [x]) => {
    const s = x!.sigmoid();
    return [g.mul(s).mul(x!.mul(s.neg().add(1)).add(1))];
  },
});

const GELU = Math.sqrt(2 / Math.PI);

/** ½x(1+tanh(√(2/π)(x+0.044715x³))), the tanh form of https://arxiv.org/abs/1606.08415. */
export const gelu: Unary = elementwise({
  scalar: (x) => 0.5 * x * (1 + Math.tanh(GELU * (x + 0.044715 * x ** 3))),
  expression: (x) => {
    const inner = x.mul(x).mul(0.044715).add(1).mul(x).mul(GELU);
    return inner.tanh().add(1).mul(x).mul(0.5);
  },
  vjp: (g, [x]) => {
    const square = x!.square();
    const t = square.mul(0.044715).add(1).mul(x!).mul(GELU).tanh();
    const slope = square
      .mul(3 * 0.044715)
      .add(1)
      .mul(GELU);
    const inner = t.square().neg().add(1).mul(slope).mul(x!);
    return [g.mul(t.add(1).add(inner)).mul(0.5)];
  },
});

/** log(1+eˣ), computed as max(x, 0) + log(1+e^-|x|). */
export const softplus: Unary = elementwise({
  scalar: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  expression: (x) => x.max(0).add(x.abs().neg().exp().add(1).log()),
  vjp: (g, [x]) => [g.mul(x!.sigmoid())],
});
