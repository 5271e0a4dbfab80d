/** Elementwise programs, emitted from a row's expression; one for each number of axes. */

import type { DType } from "../../dtype.ts";
import {
  type BinaryName,
  Expression,
  type ScalarType,
  scalarType,
  type UnaryName,
} from "../../expression.ts";
import type { Definition, KernelCall } from "../../op.ts";
import { broadcastStrides, rowMajor, sizeOf } from "../../shape.ts";
import { element, type Launcher, typeName } from "./kernel.ts";
import { findElements, walk, walkUniforms } from "./strides.ts";

/** A row whose kernel comes from its expression. */
export type Expressed = Definition & {
  readonly expression: (...inputs: Expression[]) => Expression | readonly Expression[];
};
export const isExpressed = (definition: Definition): definition is Expressed =>
  "expression" in definition && definition.expression !== undefined;

export const GROUP = 256;

/**
 * Functions that WGSL leaves too free: tanh may be off by 1e-5 and overflow, sin and cos by 5e-4.
 * sin and cos: π/2 in three parts, then the Taylor series, good for |x| up to some thousands.
 */
const FUNCTIONS = `
fn tanh_(x: f32) -> f32 {
  let a = min(abs(x), 15.0);
  let small = x * (1.0 - a * a * (1.0 / 3.0 - a * a * (2.0 / 15.0 - a * a * (17.0 / 315.0))));
  let t = exp(-2.0 * a);
  return select(sign(x) * (1.0 - t) / (1.0 + t), small, a < 0.1);
}
fn sigmoid_(x: f32) -> f32 { return 1.0 / (1.0 + exp(min(-x, 88.0))); }
fn turn_(x: f32, quarter: i32) -> f32 {
  let q = round(x * 0.63661977);
  let r = ((x - q * 1.5703125) - q * 4.8351288e-4) - q * 3.138556e-7;
  let r2 = r * r;
  let s = r * (1.0 + r2 * (-1.6666667e-1 + r2 * (8.3333333e-3 + r2 * (-1.9841270e-4 + r2 * 2.7557319e-6))));
  let c = 1.0 + r2 * (-0.5 + r2 * (4.1666667e-2 + r2 * (-1.3888889e-3 + r2 * 2.4801587e-5)));
  let k = (i32(q) + quarter) & 3;
  let v = select(s, c, (k & 1) == 1);
  return select(v, -v, k >= 2);
}
`;

const UNARY: Record<UnaryName, (x: string, from: ScalarType) => string> = {
  neg: (x) => `(-${x})`,
  abs: (x) => `abs(${x})`,
  sign: (x) => `sign(${x})`,
  exp: (x) => `exp(${x})`,
  log: (x) => `log(${x})`,
  sqrt: (x) => `sqrt(${x})`,
  sin: (x) => `turn_(${x}, 0)`,
  cos: (x) => `turn_(${x}, 1)`,
  tanh: (x) => `tanh_(${x})`,
  sigmoid: (x) => `sigmoid_(${x})`,
  floor: (x) => `floor(${x})`,
  toF32: (x) => `f32(${x})`,
  toI32: (x) => `i32(${x})`,
  toBool: (x, from) => (from === "bool" ? x : `(${x} != ${from === "f32" ? "0.0" : "0"})`),
};

const BINARY: Record<BinaryName, (a: string, b: string) => string> = {
  add: (a, b) => `(${a} + ${b})`,
  sub: (a, b) => `(${a} - ${b})`,
  mul: (a, b) => `(${a} * ${b})`,
  div: (a, b) => `(${a} / ${b})`,
  min: (a, b) => `min(${a}, ${b})`,
  max: (a, b) => `max(${a}, ${b})`,
  less: (a, b) => `(${a} < ${b})`,
  lessEqual: (a, b) => `(${a} <= ${b})`,
  equal: (a, b) => `(${a} == ${b})`,
  and: (a, b) => `(${a} && ${b})`,
  or: (a, b) => `(${a} || ${b})`,
};

/** A constant; WGSL has no word for what is not finite, but takes its bits at run time. */
function literal(value: number, dtype: ScalarType): string {
  if (dtype === "bool") return value === 0 ? "false" : "true";
  if (dtype === "i32") return `i32(${value})`;
  if (Number.isFinite(value)) return `f32(${Math.fround(value)})`;
  return Number.isNaN(value) ? "NAN" : value > 0 ? "INFINITY" : "(-INFINITY)";
}

const NOT_FINITE = `
var<private> infinity_bits: u32 = 0x7f800000u;
var<private> nan_bits: u32 = 0x7fc00000u;
`;

/** Lines that compute the results, and their names; a shared subtree is one line. */
function emit(results: readonly Expression[], inputs: readonly string[]) {
  const names = new Map<Expression, string>();
  const lines: string[] = [];
  const visit = (e: Expression): string => {
    const known = names.get(e);
    if (known !== undefined) return known;
    const { node } = e;
    const text =
      node.kind === "input"
        ? inputs[node.index]!
        : node.kind === "constant"
          ? literal(node.value, e.dtype)
          : node.kind === "unary"
            ? UNARY[node.name](visit(node.x), node.x.dtype)
            : node.kind === "binary"
              ? BINARY[node.name](visit(node.a), visit(node.b))
              : `select(${visit(node.b)}, ${visit(node.a)}, ${visit(node.condition)})`;
    const simple = node.kind === "input" || node.kind === "constant";
    const name = simple ? text : `v${lines.length}`;
    if (!simple) lines.push(`  let ${name} = ${text};`);
    names.set(e, name);
    return name;
  };
  const found = results.map(visit);
  return { lines, found };
}

function code(definition: Expressed, types: readonly DType[], axes: number): string {
  const symbols = types.map((dtype, i) => Expression.input(i, scalarType(dtype)));
  const results = [definition.expression(...symbols)].flat() as Expression[];
  const names = types.map((_, i) => `x${i}`);
  const loads = types.map((dtype, i) => {
    const x = element(`x${i}`, dtype, `x${i}_i`);
    return `  let a${i} = ${dtype === "bool" ? `${x} != 0u` : x};`;
  });
  const { lines, found } = emit(
    results,
    types.map((_, i) => `a${i}`),
  );
  const stores = results.map(({ dtype }, k) => {
    const value = dtype === "bool" ? `select(0u, 1u, ${found[k]})` : found[k];
    return `  y${k}[p.y${k}_at + i] = ${value};`;
  });
  const body = lines.join("\n");
  const constants = /INFINITY|NAN/.test(body)
    ? "  let INFINITY = bitcast<f32>(infinity_bits);\n  let NAN = bitcast<f32>(nan_bits);\n"
    : "";
  return `${constants === "" ? "" : NOT_FINITE}${/tanh_|sigmoid_|turn_/.test(body) ? FUNCTIONS : ""}
@compute @workgroup_size(${GROUP})
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) l: u32) {
  let i = unit_of(w, grid) * ${GROUP}u + l;
  if (i >= p.size) { return; }
${constants}${findElements(names, axes)}
${loads.join("\n")}
${body}
${stores.join("\n")}
}
`;
}

/** Runs a row's expression on inputs that broadcast to the outputs' shape. */
export function runElementwise(gpu: Launcher, definition: Expressed, call: KernelCall): void {
  const { inputs, outputs } = call;
  const { shape } = outputs[0]!;
  const size = sizeOf(shape);
  const strides = inputs.map((view) => broadcastStrides(view.shape, view.strides, shape));
  // The outputs are packed: their walk must not be merged across what the inputs can't merge.
  const path = walk(shape, [...strides, rowMajor(shape)]);
  const types = inputs.map(({ dtype }) => dtype);
  const names = inputs.map((_, i) => `x${i}`);
  const axes = path.sizes.length;
  gpu.dispatch({
    name: `${types.map(typeName).join("_")}_${definition.name}_${axes}`,
    code: () => code(definition, types, axes),
    reads: Object.fromEntries(inputs.map((view, i) => [`x${i}`, view])),
    writes: Object.fromEntries(outputs.map((view, k) => [`y${k}`, view])),
    uniforms: { size, ...walkUniforms(names, path) },
    groups: Math.ceil(size / GROUP),
  });
}
