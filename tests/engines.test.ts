/** Engines over HTTP against the formats that they document, and against servers that misbehave. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { logProbMode } from "../eval/engines/log_prob_mode.ts";
import { mismatchOf, mismatchText } from "../eval/engines/mismatch.ts";
import { CallFailure, Retries } from "../eval/engines/retry.ts";
import {
  checkedCompletion,
  requestSeed,
  type Sampler,
  type TextSample,
} from "../eval/engines/sampler.ts";
import type { ServerOptions } from "../eval/engines/server.ts";
import { sglangSampler } from "../eval/engines/sglang.ts";
import { chatSampler, completionSampler } from "../eval/engines/text_sampler.ts";
import { vllmSampler } from "../eval/engines/vllm.ts";
import { UserError } from "../model/errors.ts";
import { sglangGenerate, vllmCompletions } from "./support/mock_engines.ts";
import { type Answer, fakeClock, mockServer, type Received } from "./support/mock_server.ts";
import { tinyModel } from "./tiny_model.ts";

const model = tinyModel();
const STOP = 3;
const prompts = [
  [1, 5, 9],
  [1, 2],
  [7, 7, 7, 7],
];
const options = { samplesPerPrompt: 3, maxNewTokens: 6, stopTokens: [STOP], seed: 11, step: 2 };

const vllm = (more: { raw?: boolean } = {}) => vllmCompletions(model, { stop: STOP, ...more });
const sglang = (more: { raw?: boolean } = {}) => sglangGenerate(model, { stop: STOP, ...more });

const engines = [
  {
    name: "vLLM",
    serve: vllm,
    open: (more: ServerOptions) => vllmSampler({ model: "m", ...more }),
  },
  { name: "SGLang", serve: sglang, open: (more: ServerOptions) => sglangSampler(more) },
] as const;

for (const { name, serve, open } of engines) {
  /** The likeliest token's log-probability as null. */
  const unsaid =
    name === "vLLM"
      ? '{"choices": [{"logprobs": {"top_logprobs": [{"a": null}]}}]}'
      : '[{"meta_info": {"output_top_logprobs": [[[null, 5, null]]]}}]';
  describe(name, () => {
    test("with our weights gives what we would say of it: no mismatch, whatever the temperature", async () => {
      await using server = await mockServer(serve());
      const sampler: Sampler = open({ url: `${server.url}/v1` });
      for (const temperature of [1, 0.7]) {
        const found = await sampler.sample(prompts, { ...options, temperature });
        assert.deepEqual([found.tokens.length, found.finished.length], [9, 9]);
        found.tokens.forEach((tokens, i) => {
          assert.equal(found.finished[i], tokens.at(-1) === STOP);
          assert.ok(found.finished[i] || tokens.length === options.maxNewTokens);
        });
        const ratio = await mismatchOf(model, prompts, found, { temperature });
        assert.ok(ratio.maxLogRatio < 1e-4, mismatchText(ratio));
        assert.ok(ratio.effectiveShare > 0.9999, mismatchText(ratio));
      }
      const distinct = new Set((await sampler.sample(prompts, options)).tokens.map(String));
      assert.ok(distinct.size > 5, "the samples of a prompt differ");
    });

    test("is sent every setting that its generation config could fill in otherwise", async () => {
      await using server = await mockServer(serve());
      await open({ url: server.url }).sample(prompts, { ...options, topK: 5, topP: 0.9 });
      assert.equal(server.received.length, prompts.length);
      const seeds = server.received.flatMap(({ body }) => {
        const fields = body.sampling_params?.[0] ?? body;
        const { temperature, top_p, top_k, min_p, repetition_penalty, stop_token_ids } = fields;
        assert.deepEqual([temperature, top_p, top_k, min_p, repetition_penalty], [1, 0.9, 5, 0, 1]);
        assert.deepEqual([fields.presence_penalty, fields.frequency_penalty], [0, 0]);
        assert.deepEqual(stop_token_ids, [STOP]);
        return (
          body.sampling_params?.map((one: { sampling_seed: number }) => one.sampling_seed) ??
          body.seed
        );
      });
      assert.equal(new Set(seeds).size, seeds.length, "no two requests share a seed");
    });

    test("whose log-probabilities are taken before the temperature is refused by name", async () => {
      await using server = await mockServer(serve({ raw: true }));
      const sampler = open({ url: server.url });
      await assert.rejects(
        sampler.sample(prompts, { ...options, temperature: 0.5 }),
        (error: Error) => {
          assert.ok(error instanceof UserError);
          assert.match(
            error.message,
            /before the temperature of 0\.5: .*(--logprobs-mode|ORIGINAL)/,
          );
          return true;
        },
      );
      const missing: Answer = { json: JSON.parse(unsaid) };
      await using silent = await mockServer(() => missing);
      await assert.rejects(
        open({ url: silent.url, clock: fakeClock() }).sample(prompts, {
          ...options,
          temperature: 2,
        }),
        /an answer without (output_)?top_logprobs/,
      );
      // At 1 both modes are the same, and nothing is asked.
      const before = server.received.length;
      await sampler.sample(prompts.slice(0, 1), options);
      assert.equal(server.received.length, before + 1);
    });

    test("that is down, slow, cut off or talks nonsense is waited for", async () => {
      const faults: Answer[] = [
        { status: 500, json: { error: "out of memory" } },
        { status: 429, headers: { "retry-after": "9" }, json: {} },
        ...[{ stall: "headers" } as const, { stall: "body" } as const],
        ...[{ cut: "headers" } as const, { cut: "body" } as const],
        { text: "<html>bad gateway</html>", status: 502 },
        { text: "<html>hello</html>" },
        { text: '{"choices": [{"logprobs": {"token_logprobs": [NaN]}}]}' },
      ];
      const clock = fakeClock();
      const printed: string[] = [];
      await using server = await mockServer((request, i) => faults[i] ?? serve()(request));
      const settings = { url: server.url, clock, timeoutSeconds: 1, patience: { seconds: 900 } };
      const sampler = open({ ...settings, print: (text: string) => void printed.push(text) });
      const found = await sampler.sample(prompts.slice(0, 1), options);
      assert.equal(found.tokens.length, 3);
      assert.equal(server.received.length, faults.length + 1);
      assert.equal(clock.slept[1], 9000);
      assert.match(printed[0]!, /HTTP 500: \{"error":"out of memory"\}; trying again/);
    });

    test("that leaves something out, or gives too much, is named for what is wrong", async () => {
      const good = await serve()(
        name === "vLLM"
          ? received({ prompt: [prompts[0]], n: 1, temperature: 1, seed: 1, max_tokens: 6 })
          : received({
              input_ids: [prompts[0]],
              sampling_params: [{ temperature: 1, sampling_seed: 1, max_new_tokens: 6 }],
            }),
      );
      const json = (good as { json: unknown }).json;
      for (const [change, message] of name === "vLLM" ? vllmFaults : sglangFaults) {
        const broken = structuredClone(json);
        change(broken);
        await using server = await mockServer(() => ({ json: broken }));
        const sampler = open({ url: server.url, clock: fakeClock() });
        const one = { ...options, samplesPerPrompt: 1 };
        await assert.rejects(sampler.sample([prompts[0]!], one), (error: Error) => {
          assert.ok(error instanceof UserError, `${error.stack}`);
          assert.match(error.message, message);
          return true;
        });
        assert.equal(server.received.length, 3, `${message}: tried three times`);
      }
    });
  });
}

const received = (body: unknown): Received => ({ method: "POST", path: "", headers: {}, body });

// biome-ignore lint/suspicious/noExplicitAny: they break what they are given
type Fault = readonly [change: (json: any) => void, message: RegExp];

const vllmFaults: readonly Fault[] = [
  [(j) => delete j.choices, /without choices/],
  [(j) => j.choices.push(j.choices[0]), /2 completions where 1 were asked for/],
  [(j) => delete j.choices[0].token_ids, /does not know return_token_ids/],
  [(j) => (j.choices[0].token_ids = ["a"]), /without token ids/],
  [(j) => (j.choices[0].token_ids = []), /without token ids/],
  [(j) => j.choices[0].logprobs.token_logprobs.pop(), /\d log-probabilities for \d tokens/],
  [(j) => (j.choices[0].logprobs = null), /no log-probabilities/],
  [(j) => (j.choices[0].logprobs.token_logprobs[0] = null), /a log-probability of null/],
  [(j) => (j.choices[0].logprobs.token_logprobs[0] = -9999), /a log-probability of -9999/],
  [(j) => (j.choices[0].logprobs.token_logprobs[0] = 0.5), /a log-probability of 0.5/],
  [(j) => (j.choices[0].prompt_token_ids = [1]), /another prompt/],
  [(j) => shorten(j.choices[0], "length"), /cut off at 1 of 6 tokens.*max_new_tokens/],
  [(j) => shorten(j.choices[0], "stop"), /ended with token 8, which is none of the stop tokens 3/],
  [(j) => shorten(j.choices[0], "abort"), /ended because of "abort"/],
];

function shorten(choice: Record<string, unknown>, reason: string): void {
  choice.token_ids = [8];
  choice.logprobs = { token_logprobs: [-1] };
  choice.finish_reason = reason;
}

const sglangFaults: readonly Fault[] = [
  [(j) => delete j[0].meta_info, /without meta_info/],
  [(j) => j.push(j[0]), /2 completions where 1 were asked for/],
  [(j) => delete j[0].meta_info.output_token_logprobs, /without output_token_logprobs/],
  [(j) => (j[0].meta_info.output_token_logprobs = []), /without token ids/],
  [(j) => (j[0].meta_info.output_token_logprobs[0] = 5), /without token ids/],
  [(j) => (j[0].meta_info.output_token_logprobs[0][0] = null), /a log-probability of null/],
  [
    (j) => {
      j[0].meta_info.output_token_logprobs = [[-1, 8, null]];
      j[0].meta_info.finish_reason = { type: "length" };
    },
    /cut off at 1 of 6 tokens/,
  ],
];

test("an outage is told when it begins and ends, though a call that waited was given up", async () => {
  const printed: string[] = [];
  const print = (text: string) => void printed.push(text);
  const retries = new Retries({ name: "S", clock: fakeClock(), print });
  const down = new CallFailure("connection", "down");
  /** Each try fails with the next of `errors`, the one behind them succeeds. */
  const call = (...errors: Error[]) =>
    retries.call(async () => {
      const error = errors.shift();
      if (error !== undefined) throw error;
    });
  await assert.rejects(call(down, new CallFailure("status", "gone", { status: 404 })), /gone/);
  await assert.rejects(call(down, new RangeError("failed there")), RangeError);
  await call(down, down);
  await Promise.all([call(down), call(down, down), call()]);
  const [begins, ends] = ["S: down; trying again for up to 600 s", "S answers again"];
  assert.deepEqual(printed, [begins, begins, begins, ends, begins, ends]);
});

describe("a completion", () => {
  test("is believed only where nothing is missing, whatever is in it", () => {
    const any = fc.record({
      tokens: fc.oneof(fc.array(fc.integer({ min: 0, max: 9 })), fc.anything()),
      logProbs: fc.oneof(fc.array(fc.double({ max: 0, min: -99, noNaN: true })), fc.anything()),
      reason: fc.oneof(fc.constantFrom("stop", "length"), fc.anything()),
    });
    fc.assert(
      fc.property(any, (raw) => {
        try {
          const found = checkedCompletion(raw, { maxNewTokens: 4, stopTokens: [3] });
          assert.equal(found.tokens.length, found.logProbs.length);
          assert.ok(found.logProbs.every((x) => x <= 0 && x > -9999));
          assert.equal(found.finished, found.tokens.at(-1) === 3);
          assert.ok(!found.tokens.slice(0, -1).includes(3), "nothing behind the stop token");
        } catch (error) {
          assert.equal((error as Error).name, "CallFailure", `${error}`);
        }
      }),
    );
  });

  test("that goes on behind a stop token is refused, whatever it ends with", () => {
    for (const tokens of ["5378", "3553"].map((digits) => [...digits].map(Number))) {
      const raw = { tokens, logProbs: [-1, -1, -1, -1], reason: "length" };
      assert.throws(
        () => checkedCompletion(raw, { maxNewTokens: 4, stopTokens: [3] }),
        /goes on behind the stop token 3: [23] tokens more/,
      );
    }
  });

  test("seeds of requests differ by seed, step and row, and repeat", () => {
    const seeds = [
      requestSeed(1, 0, 0),
      requestSeed(2, 0, 0),
      requestSeed(1, 1, 0),
      requestSeed(1, 0, 1),
    ];
    assert.equal(new Set(seeds).size, 4);
    assert.equal(requestSeed(1, 0, 0), seeds[0]);
  });

  test("the mode of log-probabilities is told apart, or said to be unclear", async () => {
    assert.equal(await logProbMode(async (t) => (t === 1 ? -0.5 : -2)), "processed");
    assert.equal(await logProbMode(async () => -0.5), "raw");
    assert.equal(await logProbMode(async () => -1e-6), "unclear");
  });
});

describe("text from an OpenAI-compatible server", () => {
  const chat = (n: number, text: string) => ({
    json: {
      choices: Array.from({ length: n }, (_, index) => ({
        ...{ index, message: { role: "assistant", content: `${text} ${index}` } },
        finish_reason: index === 0 ? "stop" : "length",
      })),
    },
  });
  const asked = { samplesPerPrompt: 4, temperature: 0.8, maxNewTokens: 16, seed: 3 };

  test("a conversation, n at a time, cut off or not", async () => {
    await using server = await mockServer(({ body }) => chat(body.n, body.messages.at(-1).content));
    const [clock, limit] = [fakeClock(), { requestsPerMinute: 60 }];
    const own = { url: server.url, model: "m", key: "secret", clock, ...limit };
    const sampler = await chatSampler(own);
    let done = 0;
    const found = await sampler.sampleText(
      [
        "a",
        [
          { role: "system", content: "short" },
          { role: "user", content: "b" },
        ],
      ],
      { ...asked, stop: ["\n"], topP: 0.9, onProgress: (n) => (done = n) },
    );
    assert.deepEqual(
      found.map((group) => group.map(({ text }) => text)),
      [
        ["a 0", "a 1", "a 2", "a 3"],
        ["b 0", "b 1", "b 2", "b 3"],
      ],
    );
    assert.deepEqual(
      found[0]!.map(({ finished }) => finished),
      [true, false, false, false],
    );
    assert.deepEqual([done, clock.now() >= 1000], [2, true], "a second apart");
    const { body, headers } = server.received[0]!;
    const { temperature, max_tokens, n, stop, top_p } = body;
    assert.deepEqual([temperature, max_tokens, n, stop, top_p], [0.8, 16, 4, ["\n"], 0.9]);
    assert.equal(headers.authorization, "Bearer secret");
  });

  test("of a server that knows no n is asked for one by one, with other seeds", async () => {
    await using server = await mockServer(({ body }) => chat(1, `${body.seed}`));
    const sampler = await chatSampler({ url: server.url, model: "m", concurrency: 1 });
    const found = await sampler.sampleText(["a", "b"], asked);
    const texts = found.flat().map(({ text }) => text);
    assert.deepEqual([texts.length, new Set(texts).size, server.received.length], [8, 8, 8]);
  });

  test("a beginning is continued, with log-probabilities where they are asked for", async () => {
    await using server = await mockServer(({ body }) => ({
      json: {
        choices: [
          {
            ...{ index: 0, text: `${body.prompt} and on`, finish_reason: "stop" },
            logprobs: { token_logprobs: [-0.5, -0.25] },
          },
        ],
      },
    }));
    const sampler = completionSampler({ url: server.url, model: "base", logProbs: true });
    const found = await sampler.sampleText(["on"], { ...asked, samplesPerPrompt: 1 });
    assert.deepEqual(found[0]![0], { text: "on and on", finished: true, logProbs: [-0.5, -0.25] });
    await assert.rejects(sampler.sampleText([[]], asked), /takes conversations/);
  });

  test("a server that fails is waited for, and given up in plain words", async () => {
    const faults: Answer[] = [{ status: 503, text: "" }, { cut: "body" }, { stall: "body" }];
    await using server = await mockServer((_, i) => faults[i] ?? chat(1, "x"));
    const settings = { url: server.url, model: "m", clock: fakeClock(), timeoutSeconds: 0.3 };
    const one = { ...asked, samplesPerPrompt: 1 };
    const sampler = await chatSampler(settings);
    assert.equal((await sampler.sampleText(["a"], one))[0]!.length, 1);
    server.answer(() => ({ status: 400, json: { error: { message: "too long" } } }));
    await assert.rejects(sampler.sampleText(["a"], one), /m at http.*HTTP 400 too long/);
    await assert.rejects(completionSampler(settings).sampleText(["a"], one), /HTTP 400/);
  });

  test("a text that its server gave up half-way is no answer: it is asked for again", async () => {
    const one = { ...asked, samplesPerPrompt: 1 };
    for (const reason of ["abort", "error"]) {
      await using server = await mockServer((_, i) => ({
        json: {
          choices: [
            {
              ...{ text: "Par", message: { role: "assistant", content: "Par" } },
              ...(i % 2 === 0
                ? { finish_reason: reason }
                : { text: "Paris", finish_reason: "stop" }),
            },
          ],
        },
      }));
      const settings = { url: server.url, model: "m", clock: fakeClock() };
      const [[text]] = (await completionSampler(settings).sampleText(["a"], one)) as [[TextSample]];
      assert.deepEqual(text, { text: "Paris", finished: true, logProbs: null });
      assert.equal(server.received.length, 2);
      await (await chatSampler(settings)).sampleText(["a"], one);
      assert.equal(server.received.length, 4);
    }
  });

  test("nobody listens: said as such, after the patience", async () => {
    const { url } = await (async () => {
      await using server = await mockServer(() => ({ json: {} }));
      return server;
    })();
    const settings = { url, model: "m", clock: fakeClock(), patience: { seconds: 3 } };
    const sampler = await chatSampler(settings);
    for (const one of [sampler, completionSampler(settings)]) {
      await assert.rejects(
        one.sampleText(["a"], asked),
        /nothing listens there \(\d tries in \d s\)/,
      );
    }
  });
});
