/** Drawing classes: one thread a sample, running sums in order. */

import type { WgslKernel } from "../../device/webgpu/kernel.ts";
import { LOWEST, launchThreads } from "../../device/webgpu/rows.ts";

const FUNCTIONS = `
fn weight(x: f32, shift: f32) -> f32 { return select(exp(x - shift), 0.0, x <= ${LOWEST}); }
`;
/** Sums of sums: 64 classes at a time, so that rounding doesn't grow with the vocabulary. */
const BODY = `
  let at = p.logits_at + min(u32(rows[p.rows_at + i]), p.r - 1u) * p.v;
  var shift = ${LOWEST};
  for (var j = 0u; j < p.v; j++) { shift = max(shift, logits[at + j]); }
  var total = 0.0;
  for (var first = 0u; first < p.v; first += 64u) {
    var part = 0.0;
    for (var j = first; j < min(first + 64u, p.v); j++) { part += weight(logits[at + j], shift); }
    total += part;
  }
  let u = f32(bitcast<u32>(bits[p.bits_at + i]) >> 8u) * 5.9604645e-8;
  let goal = u * total;
  var reached = 0.0;
  var found = 0u;
  var ended = false;
  for (var first = 0u; first < p.v && !ended; first += 64u) {
    var part = 0.0;
    for (var j = first; j < min(first + 64u, p.v); j++) {
      let mass = weight(logits[at + j], shift);
      part += mass;
      if (mass > 0.0) {
        found = j;
        if (reached + part > goal) { ended = true; break; }
      }
    }
    reached += part;
  }
  classes[p.classes_at + i] = i32(found);
  log_probs[p.log_probs_at + i] = logits[at + found] - shift - log(total);`;

export const drawClasses: WgslKernel = {
  run: (gpu, { inputs: [logits, rows, bits], outputs: [classes, logProbs] }) => {
    const [r, v] = logits!.shape as [number, number];
    launchThreads(gpu, {
      ...{ name: "f32_draw_classes_thread", functions: FUNCTIONS, body: BODY },
      ...{ reads: { logits: logits!, rows: rows!, bits: bits! }, size: rows!.shape[0]! },
      ...{ writes: { classes: classes!, log_probs: logProbs! }, uniforms: { r, v } },
    });
  },
};
