/** Faults in losses and estimators: the golden suite must turn red for each. */

import type { Fault } from "./faults.ts";

const loss = "rl/loss.ts";

export const losses: readonly Fault[] = [
  {
    file: loss,
    what: "the padding trap: the log-ratio is not masked, so exp comes first",
    find: "return mask.where(logProbs.sub(old), 0);",
    replace: "return logProbs.sub(old);",
  },
  {
    file: loss,
    what: "GSPO: the sum of log-ratios in place of their mean",
    find: ".div(lengths.maximum(1))",
    replace: "",
  },
  {
    file: loss,
    what: "clip: the lower bound is that of the upper side",
    find: "ratio.clamp(1 - low, 1 + high)",
    replace: "ratio.clamp(1 - high, 1 + low)",
  },
  {
    file: loss,
    what: "clip: the larger of the two surrogates is taken",
    find: "free.mul(advantage).minimum(clipped.mul(advantage)).neg()",
    replace: "free.mul(advantage).maximum(clipped.mul(advantage)).neg()",
  },
  {
    file: loss,
    what: "clip: the sign of the loss",
    find: "free.mul(advantage).minimum(clipped.mul(advantage)).neg()",
    replace: "free.mul(advantage).minimum(clipped.mul(advantage))",
  },
  {
    file: loss,
    what: "dual clip on the side of good answers",
    find: "advantage.less(0).where(loss.minimum",
    replace: "advantage.greater(0).where(loss.minimum",
  },
  {
    file: loss,
    what: "CISPO: the weight is not detached",
    find: "logRatio.exp().minimum(cap).detach()",
    replace: "logRatio.exp().minimum(cap)",
  },
  {
    file: loss,
    what: "SAPO: the factor 4/τ is missing",
    find: ".mul(4 / τ);",
    replace: ";",
  },
  {
    file: loss,
    what: "k3 of the reversed difference",
    find: "d.neg().exp().sub(1).add(d)",
    replace: "d.exp().sub(1).sub(d)",
  },
  {
    file: loss,
    what: "ratioK3: the ratio is a constant",
    find: "return logRatio.exp().mul(k3);",
    replace: "return logRatio.exp().detach().mul(k3);",
  },
  {
    file: loss,
    what: "value loss: the smaller of the two squares",
    find: "free.maximum(near.sub(returns).square())",
    replace: "free.minimum(near.sub(returns).square())",
  },
  {
    file: loss,
    what: "entropy: the sign",
    find: ".sum({ axes: -1 }).neg();",
    replace: ".sum({ axes: -1 });",
  },
  {
    file: "rl/policy_loss.ts",
    what: "the KL term makes all losses twice as large",
    find: "return { values: values.add(kl.mul(form.klCoefficient)), ratio, kl };",
    replace:
      "const all = values.add(kl.mul(form.klCoefficient));\n  return { values: all.mul(2), ratio, kl };",
  },
  {
    file: "rl/advantage.ts",
    what: "std divides by n whatever ddof says",
    find: "/ (values.length - ddof)",
    replace: "/ values.length",
  },
  {
    file: "rl/advantage.ts",
    what: "leave-one-out: the factor is that of the centred form",
    find: 'if (form === "leaveOneOut") return n / (n - 1);',
    replace: 'if (form === "leaveOneOut") return 1;',
  },
  {
    file: "rl/aggregate.ts",
    what: "sequence mean: lengths do not divide",
    find: "return 1 / (sequences * length);",
    replace: "return 1 / sequences;",
  },
  {
    file: "rl/aggregate.ts",
    what: "fixed length: the sequences do not divide (verl 0.8)",
    find: "return 1 / (sequences * maxLength);",
    replace: "return 1 / maxLength;",
  },
  {
    file: "rl/importance.ts",
    what: "importance: the ratio is turned over",
    find: "line.map((x, t) => x - other[t]!)",
    replace: "line.map((x, t) => other[t]! - x)",
  },
  {
    file: "rl/importance.ts",
    what: "importance: masked ratios are truncated",
    find: 'mode === "truncate" ? cap : 0',
    replace: "cap",
  },
  {
    file: "rl/gae.ts",
    what: "GAE: λ is left out",
    find: "next = delta + gamma * lambda * next;",
    replace: "next = delta + gamma * next;",
  },
  {
    file: "rl/gae.ts",
    what: "returns without the values",
    find: "returns: advantages.map((a, t) => a + values[t]!)",
    replace: "returns: [...advantages]",
  },
  {
    file: "rl/gae.ts",
    what: "whitening: the mean is not taken off",
    find: "row.map((x) => (x - mean) * scale)",
    replace: "row.map((x) => x * scale)",
  },
  {
    file: "rl/gae.ts",
    what: "the KL penalty of tokens: the sign",
    find: "? score : 0) - penalty;",
    replace: "? score : 0) + penalty;",
  },
  {
    file: "rl/gae.ts",
    what: "the adaptive coefficient is not bounded",
    find: "Math.min(0.2, Math.max(-0.2, kl / target - 1))",
    replace: "kl / target - 1",
  },
  {
    file: "rl/preference.ts",
    what: "DPO: the sign of the margin",
    find: "const right = margin.neg().softplus();",
    replace: "const right = margin.softplus();",
  },
  {
    file: "rl/preference.ts",
    what: "IPO: 1/β in place of 1/(2β)",
    find: "delta.sub(1 / (2 * beta)).square()",
    replace: "delta.sub(1 / beta).square()",
  },
  {
    file: "rl/preference.ts",
    what: "DPO: smoothed labels do not sum to 1",
    find: "right.mul(1 - s).add(",
    replace: "right.add(",
  },
];
