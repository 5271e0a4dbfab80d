/** Drawing classes: the running sum goes over a row's parts first, then inside one of them. */

import type { WgslKernel } from "../../device/webgpu/kernel.ts";
import { launchRows, ROW_THREADS } from "../../device/webgpu/rows.ts";
import { STATISTICS, statistics } from "./softmax.ts";

/**
 * Each thread of a row has a part of the classes, in their order. One thread then finds the part in
 * which the running sum passes its goal, and the class there: the last with any mass where rounding
 * would lead beyond it. The log-probability has the bits of gatherLogProb, whose sums are the same.
 */
const BODY = `
  let at = p.logits_at + min(u32(rows[p.rows_at + row]), p.r - 1u) * p.n;
  ${statistics("logits[at + i]")}
  let each = (p.n + WIDTH - 1u) / WIDTH;
  let lane = thread % WIDTH;
  var own = 0.0;
  for (var j = lane * each; j < min((lane + 1u) * each, p.n); j++) { own += weight(logits[at + j], shift); }
  parts[thread] = own;
  workgroupBarrier();
  if (l == 0u) {
    var mass_of_all = 0.0;
    for (var k = thread; k < thread + WIDTH; k++) { mass_of_all += parts[k]; }
    let goal = f32(bitcast<u32>(bits[p.bits_at + row]) >> 8u) * 5.9604645e-8 * mass_of_all;
    var reached = 0.0;
    var chosen = 0u;
    var before = 0.0;
    for (var k = 0u; k < WIDTH; k++) {
      let mass = parts[thread + k];
      if (mass > 0.0) { chosen = k; before = reached; }
      reached += mass;
      if (reached > goal) { break; }
    }
    var found = 0u;
    for (var j = chosen * each; j < min((chosen + 1u) * each, p.n); j++) {
      let mass = weight(logits[at + j], shift);
      before += mass;
      if (mass > 0.0) { found = j; }
      if (before > goal) { break; }
    }
    classes[p.classes_at + row] = i32(found);
    log_probs[p.log_probs_at + row] = logits[at + found] - shift - log(total);
  }`;
const PARTS = `var<workgroup> parts: array<f32, ${ROW_THREADS}>;\n`;

export const drawClasses: WgslKernel = {
  run: (gpu, { inputs: [logits, rows, bits], outputs: [classes, logProbs] }) => {
    const [r, n] = logits!.shape as [number, number];
    launchRows(gpu, {
      ...{ name: "f32_draw_classes_row", ...STATISTICS, body: BODY },
      functions: `${PARTS}${STATISTICS.functions}`,
      ...{ reads: { logits: logits!, rows: rows!, bits: bits! }, rows: rows!.shape[0]!, n },
      ...{ writes: { classes: classes!, log_probs: logProbs! }, uniforms: { r } },
    });
  },
};
