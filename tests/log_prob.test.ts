/** The language-model head in one op: whose logits its gradient may overwrite, and what it costs. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { WasmDevice } from "../tensor/device/wasm/device.ts";
import { gradients, keep, scope, type Tensor, tensor, useDevice } from "../tensor/mod.ts";
import { onDevices } from "./tiny_model.ts";

const wasm = new WasmDevice({ threads: 1 });
const numbers = (length: number, scale: number) =>
  Array.from({ length }, (_, i) => scale * Math.sin(i * i + 1));

function head() {
  const x = tensor(numbers(5 * 3, 1), [5, 3]).requireGrad();
  const weight = tensor(numbers(7 * 3, 2), [7, 3]).requireGrad();
  return { x, weight, targets: tensor([1, -1, 6, 0, 3], [5], { dtype: "i32" }) };
}
const options = { temperature: 0.7, keepLogits: true };

const valuesOf = (ts: readonly Tensor[]) => ts.map((t) => t.toArray());

onDevices("logits that the caller keeps are what they were after backward", () => {
  const { x, weight, targets } = head();
  const [logProbs, logits] = x.linearLogProb(weight, targets, options);
  const before = logits.toArray();
  const found = gradients(logProbs.sum(), [x, weight]);
  assert.deepEqual(logits.toArray(), before);
  const again = x.matmul(weight.transpose()).div(options.temperature).gatherLogProb(targets);
  const expected = gradients(again.sum(), [x, weight]);
  found.forEach((t, i) => {
    assert.ok(t.sub(expected[i]!).abs().max().item() < 1e-5);
  });
});

onDevices("a graph that is kept gives the same gradients twice", () => {
  const { x, weight, targets } = head();
  const loss = scope(() => x.linearLogProb(weight, targets, options)[0].sum());
  const first = valuesOf(gradients(loss, [x, weight], { retainGraph: true }));
  assert.deepEqual(valuesOf(gradients(loss, [x, weight])), first);
});

test("without kept logits, chunks change no bit; with, one array of logits serves both ways", () => {
  const previous = useDevice(wasm);
  try {
    scope(() => {
      const { x, weight, targets } = head();
      const run = (own: object) =>
        scope(() => {
          const [logProbs] = x.linearLogProb(weight, targets, { ...options, ...own });
          return [keep(logProbs), ...gradients(logProbs.sum(), [x, weight])];
        });
      const expected = valuesOf(run({}));
      for (const chunk of [1, 2, 4, 5, 100]) {
        assert.deepEqual(valuesOf(run({ keepLogits: false, chunk })), expected, `chunk ${chunk}`);
      }
      // Logits [5 7] are allocated once: by the op, and never by its gradient.
      let arrays = 0;
      const { allocate } = wasm;
      wasm.allocate = (count, dtype) => {
        if (count === 35) arrays++;
        return allocate.call(wasm, count, dtype);
      };
      try {
        run({});
      } finally {
        wasm.allocate = allocate;
      }
      assert.equal(arrays, 1);
    });
  } finally {
    useDevice(previous);
  }
});
