/** What two engines that share weights must agree on: how the weights get there, and what they say. */

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { mismatch, mismatchText } from "../eval/engines/mismatch.ts";
import { loadLora, unloadLora, updateFromDisk } from "../eval/engines/weights.ts";
import { loadModel, saveModel } from "../model/checkpoint.ts";
import { UserError } from "../model/errors.ts";
import { writeAtomic } from "../model/files.ts";
import { adapterFiles, loadAdapters, makeLora } from "../model/lora.ts";
import { scratchFolder } from "./support/disk.ts";
import { mockServer } from "./support/mock_server.ts";
import { tinyModel } from "./tiny_model.ts";

const { fresh } = scratchFolder();
const model = tinyModel();

describe("the mismatch of two engines", () => {
  const rows = fc.array(fc.array(fc.double({ min: -5, max: 0, noNaN: true }), { minLength: 1 }), {
    minLength: 1,
  });

  test("is nothing for equal ones, and the largest shift for a shifted one", () => {
    fc.assert(
      fc.property(rows, fc.double({ min: 0.001, max: 3, noNaN: true }), (ours, shift) => {
        const same = mismatch(ours, ours);
        assert.deepEqual([same.meanLogRatio, same.maxLogRatio, same.outside], [0, 0, 0]);
        assert.equal(same.effectiveShare, 1);
        const moved = mismatch(
          ours,
          ours.map((row) => row.map((x) => x - shift)),
        );
        assert.ok(Math.abs(moved.meanLogRatio - shift) < 1e-9);
        assert.ok(Math.abs(moved.maxLogRatio - shift) < 1e-9);
        assert.ok(moved.effectiveShare > 0 && moved.effectiveShare <= 1 + 1e-12);
      }),
    );
  });

  test("known answer: weights 3 and 1 leave 80 % of two samples", () => {
    const found = mismatch([[Math.log(3), 0], [0]], [[0, 0], [0]]);
    assert.ok(Math.abs(found.effectiveShare - 16 / 20) < 1e-12);
    assert.ok(Math.abs(found.meanLogRatio - Math.log(3) / 3) < 1e-12);
    assert.ok(Math.abs(found.outside - 1 / 3) < 1e-12);
    assert.ok(Math.abs(found.kl - (2 - Math.log(3)) / 3) < 1e-12);
    assert.match(mismatchText(found), /of 3 tokens.*33\.3 % outside.*80\.0 %/);
    assert.throws(() => mismatch([[1]], [[1, 2]]), /answer 0 has 1 and 2 tokens/);
    assert.throws(() => mismatch([], []), /no tokens/);
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
    assert.deepEqual(body, { lora_name: "policy", lora_path: folder });
    const again = "The lora adapter 'policy' has already been loaded.";
    server.answer(() => ({ status: 400, json: { message: again } }));
    await loadLora(folder, "policy", { url: server.url });
    server.answer(() => ({
      status: 400,
      json: { message: "rank 2 is greater than max_lora_rank" },
    }));
    const refused = loadLora(folder, "policy", { url: server.url });
    await assert.rejects(refused, /greater than max_lora_rank.*does it see /);
    server.answer(() => ({ status: 404, json: { message: "no such adapter" } }));
    await unloadLora("policy", { url: server.url });
    assert.equal(server.received.at(-1)!.path, "/v1/unload_lora_adapter");
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
