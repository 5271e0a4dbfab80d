/** The client of Tinker servers: what it sends, and what it never has done twice. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { postJson } from "../eval/engines/http.ts";
import { CallFailure } from "../eval/engines/retry.ts";
import { datumOf } from "../eval/engines/tinker_protocol.ts";
import { UserError } from "../model/errors.ts";
import { type Answer, fakeClock, mockServer, type Script } from "./support/mock_server.ts";
import { BASE, type MockTinkerOptions } from "./support/mock_tinker.ts";
import { adam, ask, bodiesOf, data, open, SFT, STOP } from "./support/tinker_client.ts";

describe("what is sent", () => {
  test("a datum is shifted by one; the prompt weighs nothing, and the stop token counts", () => {
    const datum = datumOf([1, 5, 9], [4, STOP], { weights: [0.5, 0.25], logprobs: [-1, -2] });
    const float = (values: number[]) => ({ data: values, dtype: "float32", shape: [4] });
    assert.deepEqual(datum, {
      model_input: { chunks: [{ type: "encoded_text", tokens: [1, 5, 9, 4] }] },
      loss_fn_inputs: {
        target_tokens: { data: [5, 9, 4, STOP], dtype: "int64", shape: [4] },
        weights: float([0, 0, 0.5, 0.25]),
        logprobs: float([0, 0, -1, -2]),
      },
    });
    assert.throws(() => datumOf([1], [2, 3], { weights: [1] }), /1 values for 2 tokens/);
  });

  test("is what SDK and servers have in their sources", async () => {
    await using opened = await open({}, undefined, { key: "secret", rank: 8 });
    const { client, server } = opened;
    await client
      .forwardBackward(data, { loss_fn: "ppo", loss_fn_config: { clip_low_threshold: 0.8 } })
      .catch(() => {});
    await client.forwardBackward(data, SFT);
    await client.optimStep(adam);
    const state = await client.saveState("state-1");
    await client.loadState(state);
    await (await client.sampler("sampler-1")).sample([[1, 5]], ask);
    const one = (name: string) => bodiesOf(server.received, name).at(-1);
    assert.deepEqual(one("create_session"), {
      ...{ tags: ["anamnesis"], user_metadata: {}, sdk_version: "0.19.0" },
      type: "create_session",
    });
    assert.deepEqual(one("create_model"), {
      ...{ session_id: "session-1", model_seq_id: 0, base_model: BASE, user_metadata: {} },
      ...{ lora_config: { rank: 8, seed: 5 }, type: "create_model" },
    });
    const model_id = client.modelId;
    assert.deepEqual(one("forward_backward"), {
      ...{ model_id, seq_id: 3 },
      forward_backward_input: { data, loss_fn: "cross_entropy" },
    });
    assert.deepEqual(one("optim_step"), {
      ...{ model_id, seq_id: 4, adam_params: adam, type: "optim_step" },
    });
    assert.deepEqual(one("save_weights"), {
      ...{ model_id, seq_id: 5, path: "state-1", type: "save_weights" },
    });
    assert.deepEqual(one("load_weights"), {
      ...{ model_id, seq_id: 6, path: state, optimizer: true, type: "load_weights" },
    });
    assert.deepEqual(one("create_sampling_session"), {
      ...{ session_id: "session-1", sampling_session_seq_id: 0 },
      ...{ model_path: `tinker://${model_id}/sampler_weights/sampler-1` },
      type: "create_sampling_session",
    });
    const { sampling_params, ...sample } = one("asample");
    assert.deepEqual(sample, {
      ...{ num_samples: 2, prompt: { chunks: [{ type: "encoded_text", tokens: [1, 5] }] } },
      ...{ type: "sample", sampling_session_id: sample.sampling_session_id, seq_id: 0 },
    });
    assert.ok(Number.isInteger(sampling_params.seed));
    assert.deepEqual(sampling_params, {
      ...{ max_tokens: 6, temperature: 1, top_p: 1, top_k: -1, stop: [STOP] },
      seed: sampling_params.seed,
    });
    assert.ok(server.received.every(({ headers }) => headers["x-api-key"] === "secret"));
  });

  test("samples differ between prompts and steps, and not between two times that are asked", async () => {
    await using opened = await open();
    const sampler = await opened.client.sampler("s");
    const first = await sampler.sample(
      [
        [1, 5],
        [7, 7],
      ],
      ask,
    );
    assert.deepEqual(
      await sampler.sample(
        [
          [1, 5],
          [7, 7],
        ],
        ask,
      ),
      first,
    );
    await sampler.sample([[1, 5]], { ...ask, step: 3 });
    const seeds = bodiesOf(opened.server.received, "asample").map(
      (body) => body.sampling_params.seed,
    );
    assert.equal(new Set(seeds).size, 3, `${seeds}`);
    assert.deepEqual(await sampler.sample([], ask), { tokens: [], logProbs: [], finished: [] });
  });

  test("large batches go in parts, whose gradients add up", async () => {
    const many = Array.from({ length: 300 }, (_, i) => data[i % 2]!);
    await using opened = await open();
    const found = await opened.client.forwardBackward(many, SFT);
    // By number: a slow machine may have been asked again.
    const sizes = new Map(
      bodiesOf(opened.server.received, "forward_backward").map(
        ({ seq_id, forward_backward_input }) => [seq_id, forward_backward_input.data.length],
      ),
    );
    assert.deepEqual([[...sizes.values()], found.length], [[128, 128, 44], 300]);
    assert.deepEqual(found[299], found[1]);
  });
});

/** What goes wrong with one answer. */
const losses: Record<string, Answer> = {
  "a connection that is cut off": { cut: "headers" },
  "half an answer": { cut: "body" },
  "no answer": { stall: "headers" },
  "an error of the server": { status: 500, json: { detail: "oops" } },
  "an answer of something else": { text: "<html>hello</html>" },
  "an answer without an id": { json: { status: "pending" } },
};

/** Gives `answer` in place of the server's own to one request, which the server has had. */
const losing =
  (name: string, answer: Answer, after = true) =>
  (real: Script): Script => {
    let lost = false;
    return async (request, i) => {
      const hit = !lost && request.path === `/api/v1/${name}`;
      if (!hit) return real(request, i);
      lost = true;
      if (after) await real(request, i);
      return answer;
    };
  };

async function stepOnce(options: Partial<MockTinkerOptions>, around?: (answer: Script) => Script) {
  await using opened = await open(options, around);
  await opened.client.forwardBackward(data, SFT);
  const metrics = await opened.client.optimStep(adam);
  return { metrics, weights: await opened.tinker.weights(), done: [...opened.tinker.done] };
}

describe("what is lost", () => {
  for (const name of ["forward_backward", "optim_step"]) {
    for (const [what, answer] of Object.entries(losses)) {
      test(`${what} to ${name}: sent again where it is known, and done once`, async () => {
        const plain = await stepOnce({});
        assert.ok(plain.metrics["mock/grad_norm"]! > 0);
        const found = await stepOnce({}, losing(name, answer));
        assert.deepEqual(found, plain);
      });

      test(`${what} to ${name}: refused where it might be done twice`, async () => {
        await using opened = await open({ knowsRepeats: false }, losing(name, answer));
        await assert.rejects(
          async () => {
            await opened.client.forwardBackward(data, SFT);
            await opened.client.optimStep(adam);
          },
          (error: Error) => {
            assert.ok(error instanceof UserError, `${error.stack}`);
            assert.match(error.message, new RegExp(`the answer to ${name} was lost`));
            return true;
          },
        );
        assert.equal(opened.tinker.done.filter((done) => done === name).length, 1);
      });
    }

    for (const status of [429, 503]) {
      test(`HTTP ${status} to ${name} is no loss: nothing was begun`, async () => {
        const plain = await stepOnce({ knowsRepeats: false });
        const answer = { status, json: { detail: "later" } };
        const found = await stepOnce({ knowsRepeats: false }, losing(name, answer, false));
        assert.deepEqual(found, plain);
      });
    }
  }

  test("results that are late, or whose answers are lost, are asked for again", async () => {
    const plain = await stepOnce({});
    assert.deepEqual(await stepOnce({ delay: 5 }), plain);
    for (const answer of [...Object.values(losses), { status: 408, json: {} }]) {
      assert.deepEqual(await stepOnce({}, losing("retrieve_future", answer)), plain);
    }
  });

  test("questions for a result come further and further apart", async () => {
    const clock = fakeClock();
    await using opened = await open({ delay: 9 }, undefined, { clock, timeoutSeconds: 100 });
    clock.slept.length = 0;
    await opened.client.forwardBackward(data, SFT);
    assert.deepEqual(clock.slept, [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
    await assert.rejects(
      open({ delay: 1e6 }, undefined, { timeoutSeconds: 5 }),
      /create_model is not done after 5 s/,
    );
  });

  test("a name that is taken, by a lost request of ours too, gives way to another", async () => {
    await using opened = await open(
      { knowsRepeats: false },
      losing("save_weights", { cut: "body" }),
    );
    const path = await opened.client.saveState("s");
    assert.match(path, /weights\/s-2$/);
    await opened.client.loadState(path);
    await assert.rejects(
      opened.client.loadState("tinker://other/weights/x"),
      /load_weights failed: no state/,
    );
  });

  test("a server that can't be asked twice by number is told from one that can", async () => {
    await using knows = await open();
    assert.deepEqual([knows.client.knowsRepeats, knows.printed], [true, []]);
    await using other = await open({ knowsRepeats: false });
    assert.equal(other.client.knowsRepeats, false);
    assert.match(other.printed.join(), /a lost answer ends the run, which goes on with --resume/);
    await using without = await open(
      {},
      (answer) => (request, i) =>
        request.path.endsWith("/forward") ? { status: 404, json: {} } : answer(request, i),
    );
    assert.equal(without.client.knowsRepeats, false);
    await without.client.forwardBackward(data, SFT);
    assert.equal(bodiesOf(without.server.received, "forward_backward")[0].seq_id, 1);
  });

  test("only what was never sent, or was refused, is known not to be done", async () => {
    await using server = await mockServer(() => ({ cut: "headers" }));
    const failure = (url: string) =>
      postJson(url, {}, { timeoutSeconds: 1 }).then(
        () => assert.fail("answered"),
        (error: CallFailure) => error,
      );
    assert.equal((await failure(server.url)).mayBeDone, true);
    const gone = await mockServer(() => ({ json: {} }));
    await gone[Symbol.asyncDispose]();
    assert.equal((await failure(gone.url)).mayBeDone, false);
    const status = (status: number) => new CallFailure("status", "", { status }).mayBeDone;
    assert.deepEqual([400, 409, 429, 503].map(status), [false, false, false, false]);
    assert.deepEqual([500, 502, 504].map(status), [true, true, true]);
  });
});
