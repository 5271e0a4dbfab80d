/** Text from chat and completion servers, and weights handed over to engines. */

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { chatSampler, completionSampler } from "../eval/engines/text_sampler.ts";
import { loadLora, updateFromDisk } from "../eval/engines/weights.ts";
import { loadModel, saveModel } from "../model/checkpoint.ts";
import { UserError } from "../model/errors.ts";
import { writeAtomic } from "../model/files.ts";
import { adapterFiles, loadAdapters, makeLora } from "../model/lora.ts";
import { scratchFolder } from "./support/disk.ts";
import { type Answer, fakeClock, mockServer } from "./support/mock_server.ts";
import { tinyModel } from "./tiny_model.ts";

const { fresh } = scratchFolder();
const model = tinyModel();

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
    const sampler = await chatSampler({ url: server.url, model: "m", key: "secret" });
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
    assert.equal(done, 2);
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

describe("weights are handed over", () => {
  test("as a LoRA adapter that PEFT reads, by hot loading into vLLM", async () => {
    const folder = fresh();
    mkdirSync(folder);
    const settings = { rank: 2, alpha: 4, targets: ["q_proj", "v_proj"] };
    const lora = makeLora(model.config, model.parameters, settings, 1);
    for (const [name, bytes] of Object.entries(await adapterFiles(lora))) {
      writeAtomic(join(folder, name), [bytes]);
    }
    await using server = await mockServer(({ body }) => {
      // What a server does: it opens the folder.
      const config = JSON.parse(readFileSync(join(body.lora_path, "adapter_config.json"), "utf8"));
      loadAdapters(join(body.lora_path, "adapter_model.safetensors"), lora);
      assert.deepEqual([config.r, config.target_modules], [2, ["q_proj", "v_proj"]]);
      return { text: "Success: LoRA adapter 'policy' added successfully." };
    });
    await loadLora(folder, "policy", { url: `${server.url}/v1` });
    const { path, body } = server.received[0]!;
    assert.equal(path, "/v1/load_lora_adapter");
    assert.deepEqual(body, { lora_name: "policy", lora_path: folder, load_inplace: true });
    server.answer(() => ({ status: 404, json: { detail: "Not Found" } }));
    await assert.rejects(loadLora(folder, "policy", { url: server.url }), /RUNTIME_LORA_UPDATING/);
    await assert.rejects(loadLora(fresh(), "policy", { url: server.url }), /has no adapter_config/);
  });

  test("as a whole folder, SGLang pausing meanwhile and going on even where it refuses", async () => {
    const folder = fresh();
    await saveModel(folder, model);
    let refuse = false;
    await using server = await mockServer(({ path, body }) => {
      if (path !== "/update_weights_from_disk") return { text: "ok" };
      assert.ok(existsSync(join(body.model_path, "config.json")));
      if (refuse) return { json: { success: false, message: "shape mismatch" } };
      assert.equal(loadModel(body.model_path).parameters.size, model.parameters.size);
      return { json: { success: true, message: "Succeeded to update model weights." } };
    });
    const steps = ["/pause_generation", "/update_weights_from_disk", "/continue_generation"];
    await updateFromDisk(folder, "step-12", { url: server.url });
    assert.deepEqual(
      server.received.map(({ path }) => path),
      steps,
    );
    const { flush_cache, weight_version } = server.received[1]!.body;
    assert.deepEqual([flush_cache, weight_version], [true, "step-12"]);
    refuse = true;
    await assert.rejects(
      updateFromDisk(folder, "step-13", { url: server.url }),
      (error: Error) =>
        error instanceof UserError && /did not take .*shape mismatch/.test(error.message),
    );
    assert.deepEqual(
      server.received.slice(3).map(({ path }) => path),
      steps,
    );
    await assert.rejects(updateFromDisk(fresh(), "x", { url: server.url }), /has no config\.json/);
  });
});
