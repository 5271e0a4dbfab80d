/** RMSNorm and LayerNorm kernels; gradients of the weights as partial sums of fixed row blocks. */

import {
  type FunctionBuilder,
  f32,
  f32x4,
  i32,
  type Local,
  type ModuleBuilder,
} from "../../device/wasm/assembler.ts";
import type { WasmKernel } from "../../device/wasm/kernel.ts";
import { address, i32s } from "../../device/wasm/launch.ts";
import type { Machine } from "../../device/wasm/machine.ts";
import {
  accumulators,
  fold,
  type I32,
  rowAt,
  SUM,
  sweep,
  type Vector,
} from "../../device/wasm/rows.ts";
import type { KernelCall } from "../../op.ts";
import { reduceColumns, withTemporary } from "./columns.ts";

/** Nanoseconds per element of one pass, and per row. */
const PASS_COST = 0.1;
const ROW_COST = 20;

/** A row's mean (0 for RMSNorm) and 1/√(mean (x - mean)² + eps), each in all four lanes. */
interface Statistics {
  readonly mean: Vector;
  readonly r: Local<"v128">;
}

/** Which of the two norms: they differ in whether the mean is taken off. */
interface Norm {
  readonly name: string;
  readonly centred: boolean;
}
const RMS: Norm = { name: "rms_norm", centred: false };
const LAYER: Norm = { name: "layer_norm", centred: true };

function statistics(
  f: FunctionBuilder,
  { centred }: Norm,
  x: I32,
  n: I32,
  eps: Local<"f32">,
): Statistics {
  const share = f.local("v128", f32x4.splat(f32.div(f32.const(1), f32.convertI32U(n))), "share");
  const mean = centred
    ? f.local(
        "v128",
        f32x4.mul(
          fold(f, n, SUM, (step) => step.load(x)),
          share,
        ),
        "mean",
      )
    : f32x4.const(0);
  const squares = fold(f, n, SUM, (step) => {
    const d = f.local("v128", deviation(step.load(x), mean, centred), "d");
    return f32x4.mul(d, d);
  });
  const variance = f32x4.add(f32x4.mul(squares, share), f32x4.splat(eps));
  return { mean, r: f.local("v128", f32x4.div(f32x4.const(1), f32x4.sqrt(variance)), "r") };
}

const deviation = (x: Vector, mean: Vector, centred: boolean): Vector =>
  centred ? f32x4.sub(x, mean) : x;

/** y = (x - mean) · r · w + b, where RMSNorm has neither mean nor b. */
function emitForward(m: ModuleBuilder, norm: Norm): void {
  const parameters = {
    ...i32s("x", "w", "b", "y", "n"),
    eps: "f32",
    ...i32s("begin", "end"),
  } as const;
  m.function(`f32_${norm.name}`, parameters, (f, p) => {
    const row = f.local("i32", undefined, "r");
    f.for(row, p.begin, p.end, 1, () => {
      const [x, y] = [rowAt(f, p.x, row, p.n), rowAt(f, p.y, row, p.n)];
      const { mean, r } = statistics(f, norm, x, p.n, p.eps);
      sweep(f, p.n, 2, (step) => {
        const unit = f32x4.mul(deviation(step.load(x), mean, norm.centred), r);
        const scaled = f32x4.mul(unit, step.load(p.w));
        step.store(y, norm.centred ? f32x4.add(scaled, step.load(p.b)) : scaled);
      });
    });
  });
}

const VJP = {
  ...i32s("g", "x", "w", "dx", "dw", "db", "rows", "block", "n"),
  eps: "f32",
  ...i32s("begin", "end"),
} as const;

/**
 * Unit k: rows of block k give dx, and their share of dw and db, in row k of these arrays. With
 * x̂ = (x - mean)·r: dx = r(g·w - mean(g·w) - x̂·mean(g·w·x̂)); RMSNorm lacks the middle term.
 */
function emitBackward(m: ModuleBuilder, norm: Norm): void {
  m.function(`f32_${norm.name}_vjp`, VJP, (f, p) => {
    const unit = f.local("i32", undefined, "unit");
    f.for(unit, p.begin, p.end, 1, () => {
      const shares = (norm.centred ? [p.dw, p.db] : [p.dw]).map((a) => rowAt(f, a, unit, p.n));
      for (const share of shares) f.fill(share, 0, i32.shl(p.n, 2));
      const row = f.local("i32", i32.mul(unit, p.block), "r");
      const last = f.local("i32", i32.add(row, p.block), "last");
      f.if(i32.gtU(last, p.rows), () => f.set(last, p.rows));
      f.for(row, row, last, 1, () => backwardRow(f, norm, p, row, shares));
    });
  });
}

function backwardRow(
  f: FunctionBuilder,
  norm: Norm,
  p: { readonly [K in "g" | "x" | "w" | "dx" | "n"]: I32 } & { readonly eps: Local<"f32"> },
  row: I32,
  [dw, db]: readonly I32[],
): void {
  const [g, x, dx] = [p.g, p.x, p.dx].map((a) => rowAt(f, a, row, p.n)) as [I32, I32, I32];
  const { mean, r } = statistics(f, norm, x, p.n, p.eps);
  const [alongX, along1] = [accumulators(f, SUM, 2), accumulators(f, SUM, 2)];
  sweep(f, p.n, 2, (step) => {
    const gw = f.local("v128", f32x4.mul(step.load(g), step.load(p.w)), "gw");
    alongX.add(step, f32x4.mul(gw, deviation(step.load(x), mean, norm.centred)));
    if (norm.centred) along1.add(step, gw);
  });
  const share = f.local("v128", f32x4.splat(f32.div(f32.const(1), f32.convertI32U(p.n))), "share");
  // mean(g·w·x̂), from Σ g·w·(x - mean).
  const slope = f.local("v128", f32x4.mul(f32x4.mul(alongX.total(), r), share), "slope");
  const level = norm.centred
    ? f.local("v128", f32x4.mul(along1.total(), share), "level")
    : undefined;
  sweep(f, p.n, 1, (step) => {
    const own = f.local("v128", step.load(g), "own");
    const unit = f.local("v128", f32x4.mul(deviation(step.load(x), mean, norm.centred), r), "unit");
    const gw = f32x4.mul(own, step.load(p.w));
    const centred = level === undefined ? gw : f32x4.sub(gw, level);
    step.store(dx, f32x4.mul(r, f32x4.sub(centred, f32x4.mul(unit, slope))));
    step.store(dw!, f32x4.add(step.load(dw!), f32x4.mul(own, unit)));
    if (db !== undefined) step.store(db, f32x4.add(step.load(db), own));
  });
}

const epsOf = ({ options }: KernelCall): number => (options as { eps: number }).eps;

function runForward(machine: Machine, norm: Norm, call: KernelCall): void {
  const { batch, n } = call.dims as { batch: number; n: number };
  const [x, w, b] = call.inputs.map(address) as [number, number, number?];
  const args = [x, w, b ?? 0, address(call.outputs[0]!), n, epsOf(call)];
  const work = batch * (ROW_COST + 4 * PASS_COST * n);
  machine.parallel(`f32_${norm.name}`, args, batch, { grain: 1, work });
}

/** At most this many rows, and at least this many blocks where there are enough rows. */
const BLOCK_ROWS = 32;
const BLOCKS = 16;

function runBackward(machine: Machine, norm: Norm, call: KernelCall): void {
  const { batch, n } = call.dims as { batch: number; n: number };
  const [dx, ...gradients] = call.outputs.map(address) as [number, ...number[]];
  const [g, x, w] = call.inputs.map(address) as [number, number, number];
  // The blocks must not depend on the number of threads: they decide the bits of the sums.
  const block = Math.max(1, Math.min(BLOCK_ROWS, Math.ceil(batch / BLOCKS)));
  const blocks = Math.ceil(batch / block);
  withTemporary(machine, gradients.length * blocks * n, (parts) => {
    const shares = gradients.map((_, k) => parts + 4 * k * blocks * n);
    const args = [g, x, w, dx, shares[0]!, shares[1] ?? 0, batch, block, n, epsOf(call)];
    const work = batch * (2 * ROW_COST + 8 * PASS_COST * n);
    machine.parallel(`f32_${norm.name}_vjp`, args, blocks, { grain: 1, work });
    for (const [k, target] of gradients.entries()) {
      reduceColumns(machine, "sum", shares[k]!, [1, blocks, n], target);
    }
  });
}

const forward = (norm: Norm): WasmKernel => ({
  emit: (m) => emitForward(m, norm),
  run: (machine, call) => runForward(machine, norm, call),
});
const backward = (norm: Norm): WasmKernel => ({
  emit: (m) => emitBackward(m, norm),
  run: (machine, call) => runBackward(machine, norm, call),
});

export const rmsNorm: WasmKernel = forward(RMS);
export const rmsNormVjp: WasmKernel = backward(RMS);
export const layerNorm: WasmKernel = forward(LAYER);
export const layerNormVjp: WasmKernel = backward(LAYER);
