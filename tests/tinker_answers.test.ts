/** What a Tinker server answers: what is believed of it, asked for again, or quoted. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openTinker } from "../eval/engines/tinker.ts";
import { UserError } from "../model/errors.ts";
import type { Script } from "./support/mock_server.ts";
import { BASE } from "./support/mock_tinker.ts";
import { adam, ask, data, open, SFT } from "./support/tinker_client.ts";

describe("what is not believed", () => {
  const changed =
    (change: (json: { [key: string]: never }) => void) =>
    (answer: Script): Script =>
    async (request, i) => {
      const found = await answer(request, i);
      if (!request.path.endsWith("retrieve_future") || !("json" in found)) return found;
      const json = structuredClone(found.json) as { [key: string]: never };
      change(json);
      return { json };
    };
  const cases: readonly [string, (json: never) => void, RegExp][] = [
    [
      "fewer sequences than were sent",
      (json: { loss_fn_outputs?: unknown[] }) => void json.loss_fn_outputs?.pop(),
      /1 outputs for 2 sequences \(3 tries/,
    ],
    [
      "fewer log-probabilities than tokens",
      (json: { loss_fn_outputs?: { logprobs: { data: number[] } }[] }) =>
        void json.loss_fn_outputs?.[1]?.logprobs.data.pop(),
      /2 log-probabilities for 3 tokens/,
    ],
    [
      "log-probabilities that are no numbers",
      (json: { loss_fn_outputs?: { logprobs: { data: unknown[] } }[] }) =>
        void json.loss_fn_outputs?.[0]?.logprobs.data.fill(null),
      /forward_backward: an answer of another form \(.*loss_fn_outputs\.0\.logprobs\.data\.0\)/,
    ],
    [
      "fewer samples than were asked for",
      (json: { sequences?: unknown[] }) => void json.sequences?.pop(),
      /1 samples where 2 were asked for/,
    ],
    [
      "samples without log-probabilities",
      (json: { sequences?: { logprobs: unknown }[] }) =>
        void json.sequences?.map((one) => Object.assign(one, { logprobs: null })),
      /no log-probabilities for \d tokens/,
    ],
    [
      "a stop token that is kept back",
      (json: { sequences?: object[] }) =>
        void json.sequences?.map((one) =>
          Object.assign(one, { tokens: [5], logprobs: [-1], stop_reason: "stop" }),
        ),
      /ended with token 5, which is none of the stop tokens 3/,
    ],
  ];
  for (const [name, change, message] of cases) {
    test(name, async () => {
      await using opened = await open({}, changed(change as never));
      await assert.rejects(
        async () => {
          await opened.client.forwardBackward(data, SFT);
          await (await opened.client.sampler("s")).sample([[1, 5]], ask);
        },
        (error: Error) => {
          assert.ok(error instanceof UserError, `${error.stack}`);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }

  test("operations that fail are quoted; a sample that fails is asked for again", async () => {
    await using opened = await open();
    const { client, tinker } = opened;
    const sampler = await client.sampler("s");
    const expected = await sampler.sample([[1, 5]], ask);
    let left = 2;
    tinker.failing((name) => (name === "asample" && left-- > 0 ? "worker died" : undefined));
    assert.deepEqual(await sampler.sample([[1, 5]], ask), expected);
    left = 3;
    await assert.rejects(sampler.sample([[1, 5]], ask), /asample failed: worker died/);
    tinker.failing((name) => (name === "optim_step" ? "no gradients here" : undefined));
    await assert.rejects(client.optimStep(adam), /optim_step failed: no gradients here/);
    assert.equal(tinker.done.filter((name) => name === "optim_step").length, 1);
  });

  test("results that the server no longer knows are gone", async () => {
    for (const status of [400, 404, 410]) {
      const answer = { status, json: { detail: "Future not found" } };
      await using opened = await open();
      const { client, server, tinker } = opened;
      server.answer((request) =>
        request.path.endsWith("retrieve_future") ? answer : tinker.answer(request),
      );
      await assert.rejects(client.optimStep(adam), /optim_step failed: HTTP 4.*Future not found/);
    }
  });

  test("a server that starts is waited for; one without the model is left", async () => {
    let asked = 0;
    await using opened = await open(
      {},
      (answer) => (request, i) =>
        request.path.endsWith("healthz") && asked++ < 3
          ? { json: { status: "initializing" } }
          : answer(request, i),
    );
    assert.equal(asked, 4);
    assert.match(opened.printed[0]!, /it is initializing; trying again/);
    await assert.rejects(
      open({}, undefined, { model: "other/model" }),
      /has no model other\/model: it has tiny\/base/,
    );
    await assert.rejects(
      open({}, () => () => ({ status: 401, json: { detail: "bad key" } })),
      /HTTP 401.*bad key/,
    );
    await assert.rejects(
      openTinker({ url: "nowhere", model: BASE, rank: 0, seed: 0 }),
      /the Tinker server "nowhere" is no address/,
    );
  });
});
