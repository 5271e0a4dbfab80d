/** Softmax programs: a row's maximum, its sum of exponentials, then what the op makes of them. */

import type { View } from "../../device/device.ts";
import type { Launcher, WgslKernel } from "../../device/webgpu/kernel.ts";
import { eachElement, LOWEST, launchRows, launchThreads } from "../../device/webgpu/rows.ts";
import { sizeOf } from "../../shape.ts";

/** WGSL: `shift` and `total` of a row, of which `value` is element i; -∞ counts as nothing. */
export const statistics = (value: string): string => `
  var top = ${LOWEST};
  ${eachElement(`top = max(top, ${value});`)}
  let shift = fold_max(top);
  var part = 0.0;
  ${eachElement(`part += weight(${value}, shift);`)}
  let total = fold_sum(part);
`;
/** exp(x - shift), 0 for what counts as -∞, and NaN for NaN. */
const WEIGHT = `
fn weight(x: f32, shift: f32) -> f32 { return select(exp(x - shift), 0.0, x <= ${LOWEST}); }
`;
/** What statistics() calls. */
export const STATISTICS = { functions: WEIGHT, folds: ["max", "sum"] } as const;
const X = "x[p.x_at + row * p.n + i]";
const Y = "y[p.y_at + row * p.n + i]";

type Row = { readonly batch: number; readonly n: number };

export const softmax: WgslKernel = {
  run: (gpu, { inputs: [x], outputs: [y], dims }) => {
    const { batch: rows, n } = dims as Row;
    const value = `${Y} = select(0.0, weight(${X}, shift) / total, total != 0.0);`;
    const body = `${statistics(X)}  ${eachElement(value)}`;
    const arrays = { reads: { x: x! }, writes: { y: y! } };
    launchRows(gpu, { name: "f32_softmax_row", ...STATISTICS, body, ...arrays, rows, n });
  },
};

export const logSoftmax: WgslKernel = {
  run: (gpu, { inputs: [x], outputs: [y], dims }) => {
    const { batch: rows, n } = dims as Row;
    const log = "  let log_total = select(0.0, shift + log(total), total != 0.0);";
    const body = `${statistics(X)}${log}\n  ${eachElement(`${Y} = ${X} - log_total;`)}`;
    const arrays = { reads: { x: x! }, writes: { y: y! } };
    launchRows(gpu, {
      name: "f32_log_softmax_row",
      ...STATISTICS,
      body,
      ...arrays,
      rows,
      n,
    });
  },
};

export const logSumExp: WgslKernel = {
  run: (gpu, { inputs: [x], outputs: [y], dims }) => {
    const { batch: rows, n } = dims as Row;
    const infinity = "  let nothing = bitcast<f32>(negative_infinity);";
    const store =
      "  if (l == 0u) { y[p.y_at + row] = select(nothing, shift + log(total), total != 0.0); }";
    const functions = `${WEIGHT}var<private> negative_infinity: u32 = 0xff800000u;\n`;
    const body = `${statistics(X)}${infinity}\n${store}`;
    const arrays = { reads: { x: x! }, writes: { y: y! } };
    launchRows(gpu, {
      name: "f32_log_sum_exp_row",
      ...STATISTICS,
      functions,
      body,
      ...arrays,
      rows,
      n,
    });
  },
};

export const softmaxVjp: WgslKernel = {
  run: (gpu, { inputs: [g, y], outputs: [dx], dims }) => {
    const { batch: rows, n } = dims as Row;
    const [G, own] = ["g[p.g_at + row * p.n + i]", Y];
    const body = `
  var part = 0.0;
  ${eachElement(`part += ${G} * ${own};`)}
  let dot = fold_sum(part);
  ${eachElement(`dx[p.dx_at + row * p.n + i] = ${own} * (${G} - dot);`)}`;
    const arrays = { reads: { g: g!, y: y! }, writes: { dx: dx! } };
    launchRows(gpu, { name: "f32_softmax_vjp_row", folds: ["sum"], body, ...arrays, rows, n });
  },
};

/** Scores of keys that a query doesn't see count as -∞. */
export const causalSoftmax: WgslKernel = {
  run: (gpu, { inputs: [x, positions], outputs: [y], dims, options }) => {
    const { b, h, t, s } = dims as Record<"b" | "h" | "t" | "s", number>;
    const { scale } = options as { scale: number };
    const seen = `
  let query = row % p.t;
  let last = positions[p.positions_at + row / (p.h * p.t) * p.t + query];`;
    const value = `select(${LOWEST}, p.scale * ${X}, i32(i) <= last)`;
    const store = `${Y} = select(0.0, weight(${value}, shift) / total, total != 0.0);`;
    launchRows(gpu, {
      ...{ name: "f32_causal_softmax_row", ...STATISTICS },
      body: `${seen}${statistics(value)}  ${eachElement(store)}`,
      ...{ reads: { x: x!, positions: positions! }, writes: { y: y! } },
      ...{ rows: b * h * t, n: s, uniforms: { h, t }, floats: { scale } },
    });
  },
};

type Classes = { readonly batch: number; readonly v: number };

/** y[i] = log softmax(x[i])[targets[i]] for x [rows n]; 0 for a negative target. */
export function launchLogProb(
  gpu: Launcher,
  arrays: Record<"x" | "targets" | "y", View>,
  n: number,
) {
  const { x, targets, y } = arrays;
  const body = `${statistics(X)}
  if (l == 0u) {
    let target_class = targets[p.targets_at + row];
    let own = x[p.x_at + row * p.n + u32(max(target_class, 0))];
    y[p.y_at + row] = select(own - shift - log(total), 0.0, target_class < 0);
  }`;
  const rows = sizeOf(y.shape);
  const name = "f32_gather_log_prob_row";
  const bound = { reads: { x, targets }, writes: { y } };
  launchRows(gpu, { name, ...STATISTICS, body, ...bound, rows, n });
}

export const gatherLogProb: WgslKernel = {
  run: (gpu, { inputs: [x, targets], outputs: [y], dims }) =>
    launchLogProb(gpu, { x: x!, targets: targets!, y: y! }, (dims as Classes).v),
};

const HIT = "select(0.0, 1.0, i32(i) == target_class)";
const SHARE = `
  let target_class = targets[p.targets_at + row];
  let share = select(g[p.g_at + row] * p.scale, 0.0, target_class < 0);`;

/** x[i] := scale · g[i] · (onehot(targets[i]) - softmax(x[i])), in place. */
export function launchLogProbSlopes(
  gpu: Launcher,
  { g, x, targets }: Record<"g" | "x" | "targets", View>,
  n: number,
  scale: number,
): void {
  launchRows(gpu, {
    ...{ name: "f32_log_prob_slopes_row", ...STATISTICS, rows: sizeOf(targets.shape), n },
    body: `${statistics(X)}${SHARE}
  ${eachElement(`${X} = share * (${HIT} - weight(${X}, shift) / total);`)}`,
    ...{ reads: { g, targets }, writes: { x }, floats: { scale } },
  });
}

export const gatherLogProbVjp: WgslKernel = {
  run: (gpu, { inputs: [g, x, targets], outputs: [dx], dims }) => {
    const { batch: rows, v: n } = dims as Classes;
    launchRows(gpu, {
      ...{ name: "f32_gather_log_prob_vjp_row", ...STATISTICS, rows, n },
      body: `${statistics(X)}${SHARE}
  ${eachElement(`dx[p.dx_at + row * p.n + i] = share * (${HIT} - weight(${X}, shift) / total);`)}`,
      ...{ reads: { g: g!, x: x!, targets: targets! }, writes: { dx: dx! }, floats: { scale: 1 } },
    });
  },
};

/** One thread a row: the running sum must be taken in order. */
export const categorical: WgslKernel = {
  run: (gpu, { inputs: [x, u], outputs: [y], dims }) => {
    const { batch: size, n } = dims as Row;
    const body = `
  let at = p.x_at + i * p.n;
  var shift = ${LOWEST};
  for (var j = 0u; j < p.n; j++) { shift = max(shift, x[at + j]); }
  var total = 0.0;
  for (var j = 0u; j < p.n; j++) { total += weight(x[at + j], shift); }
  let goal = u[p.u_at + i] * total;
  var reached = 0.0;
  var last = 0u;
  for (var j = 0u; j < p.n && reached <= goal; j++) {
    let mass = weight(x[at + j], shift);
    if (mass > 0.0) { last = j; }
    reached += mass;
  }
  y[p.y_at + i] = i32(last);`;
    const arrays = { reads: { x: x!, u: u! }, writes: { y: y! } };
    const name = "f32_categorical_thread";
    launchThreads(gpu, { name, functions: WEIGHT, body, ...arrays, size, uniforms: { n } });
  },
};
