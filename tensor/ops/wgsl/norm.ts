/** RMSNorm and LayerNorm, threads a row; a weight's gradient is a sum over parts of all rows. */

import type { WgslKernel } from "../../device/webgpu/kernel.ts";
import { eachElement, launchRows } from "../../device/webgpu/rows.ts";
import type { Epsilon } from "../norm.ts";
import { sumColumns } from "./reduce.ts";

type Row = { readonly batch: number; readonly n: number };

const X = "x[p.x_at + row * p.n + i]";
const G = "g[p.g_at + row * p.n + i]";
const W = "weight[p.weight_at + i]";
const SQUARES = `
  var part = 0.0;
  ${eachElement(`part += ${X} * ${X};`)}
  let r = 1.0 / sqrt(fold_sum(part) / f32(p.n) + p.eps);`;
/** Mean, then the mean square of what is left: E[x²] - E[x]² would cancel. */
const MOMENTS = `
  var part = 0.0;
  ${eachElement(`part += ${X};`)}
  let mean = fold_sum(part) / f32(p.n);
  part = 0.0;
  ${eachElement(`let own = ${X} - mean; part += own * own;`)}
  let r = 1.0 / sqrt(fold_sum(part) / f32(p.n) + p.eps);`;

export const rmsNorm: WgslKernel = {
  run: (gpu, { inputs: [x, weight], outputs: [y], dims, options }) => {
    const { batch: rows, n } = dims as Row;
    const body = `${SQUARES}\n  ${eachElement(`y[p.y_at + row * p.n + i] = ${X} * r * ${W};`)}`;
    launchRows(gpu, {
      ...{ name: "f32_rms_norm_row", folds: ["sum"], body, rows, n },
      ...{ reads: { x: x!, weight: weight! }, writes: { y: y! } },
      floats: { eps: (options as Epsilon).eps },
    });
  },
};

export const rmsNormVjp: WgslKernel = {
  run: (gpu, { inputs: [g, x, weight], outputs: [dx, dw], dims, options }) => {
    const { batch: rows, n } = dims as Row;
    const units = gpu.temporary(rows * n);
    const body = `${SQUARES}
  part = 0.0;
  ${eachElement(`part += ${G} * ${W} * ${X} * r;`)}
  let share = fold_sum(part) / f32(p.n);
  for (var i = l; i < p.n; i += WIDTH) {
    let unit = ${X} * r;
    dx[p.dx_at + row * p.n + i] = r * (${G} * ${W} - unit * share);
    dw[p.dw_at + row * p.n + i] = ${G} * unit;
  }`;
    launchRows(gpu, {
      ...{ name: "f32_rms_norm_vjp_row", folds: ["sum"], body, rows, n },
      ...{ reads: { g: g!, x: x!, weight: weight! }, writes: { dx: dx!, dw: units } },
      floats: { eps: (options as Epsilon).eps },
    });
    sumColumns(gpu, units, dw!, rows, n);
  },
};

export const layerNorm: WgslKernel = {
  run: (gpu, { inputs: [x, weight, bias], outputs: [y], dims, options }) => {
    const { batch: rows, n } = dims as Row;
    const value = `(${X} - mean) * r * ${W} + bias[p.bias_at + i]`;
    const body = `${MOMENTS}\n  ${eachElement(`y[p.y_at + row * p.n + i] = ${value};`)}`;
    launchRows(gpu, {
      ...{ name: "f32_layer_norm_row", folds: ["sum"], body, rows, n },
      ...{ reads: { x: x!, weight: weight!, bias: bias! }, writes: { y: y! } },
      floats: { eps: (options as Epsilon).eps },
    });
  },
};

export const layerNormVjp: WgslKernel = {
  run: (gpu, { inputs: [g, x, weight], outputs: [dx, dw, db], dims, options }) => {
    const { batch: rows, n } = dims as Row;
    const units = gpu.temporary(rows * n);
    const body = `${MOMENTS}
  part = 0.0;
  ${eachElement(`part += ${G} * ${W};`)}
  let level = fold_sum(part) / f32(p.n);
  part = 0.0;
  ${eachElement(`part += ${G} * ${W} * (${X} - mean) * r;`)}
  let share = fold_sum(part) / f32(p.n);
  for (var i = l; i < p.n; i += WIDTH) {
    let unit = (${X} - mean) * r;
    dx[p.dx_at + row * p.n + i] = r * (${G} * ${W} - level - unit * share);
    dw[p.dw_at + row * p.n + i] = ${G} * unit;
  }`;
    launchRows(gpu, {
      ...{ name: "f32_layer_norm_vjp_row", folds: ["sum"], body, rows, n },
      ...{ reads: { g: g!, x: x!, weight: weight! }, writes: { dx: dx!, dw: units } },
      floats: { eps: (options as Epsilon).eps },
    });
    sumColumns(gpu, units, dw!, rows, n);
    sumColumns(gpu, g!, db!, rows, n);
  },
};
