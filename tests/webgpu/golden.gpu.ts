/** The golden suite on a GPU: policy losses with their gradients, preference and value losses, entropy. */

import { entropy } from "../../rl/loss.ts";
import { preferenceLoss } from "../../rl/preference.ts";
import { scope, tensor } from "../../tensor/mod.ts";
import { golden, near, type PolicyCase, policyLossTensors } from "../golden/golden.ts";
import { gpuTest } from "./gpu.ts";

const TOLERANCE = 2e-6;

gpuTest("policy losses and their gradients, whatever stands in the padding", async (device) => {
  for (const { loss, gradient, ...form } of golden.policy as PolicyCase[]) {
    for (const junk of [0, 1e3, -1e3]) {
      const [found, slopes] = scope(() => policyLossTensors(form, { device, junk }));
      near(await found.data(), [loss], TOLERANCE);
      if (gradient) near(await slopes.data(), gradient.flat(), TOLERANCE);
      for (const t of [found, slopes]) t.dispose();
    }
  }
});

gpuTest("preference losses", async (device) => {
  const { delta, cases } = golden.dpo;
  for (const { loss, ...form } of cases) {
    if (form.form === "ipoMean") continue; // of other differences
    const mean = scope(() => preferenceLoss(tensor(delta, undefined, { device }), form).mean());
    near(await mean.data(), [loss], TOLERANCE * Math.max(1, loss));
    mean.dispose();
  }
});

gpuTest("log-probabilities and entropy", async (device) => {
  const { logits, targets, logProbs, entropy: expected } = golden.sft;
  const [found, own] = scope(() => {
    const x = tensor(logits, undefined, { device });
    const ids = tensor(targets, undefined, { dtype: "i32", device });
    return [x.gatherLogProb(ids), entropy(x)];
  });
  near(await found!.data(), logProbs.flat(), TOLERANCE);
  near(await own!.data(), expected.flat(), TOLERANCE);
  for (const t of [found!, own!]) t.dispose();
});
