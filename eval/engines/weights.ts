/** Handing new weights to an engine that samples: LoRA adapters to vLLM, whole folders to SGLang. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../model/errors.ts";
import { excerpt } from "./http.ts";
import { CallFailure } from "./retry.ts";
import { openServer, type ServerOptions } from "./server.ts";

/** Refuses a folder that lacks a file which the engine will look for. */
function requireFiles(folder: string, names: readonly string[], writer: string): void {
  const missing = names.filter((name) => !existsSync(join(folder, name)));
  if (missing.length === 0) return;
  throw new UserError(`${folder} has no ${missing.join(", ")}: ${writer} writes such a folder`);
}

export interface HandOver extends ServerOptions {
  /** The folder's path as the server sees it, where that is another machine; default the same. */
  readonly pathOnServer?: string;
}

/**
 * Loads a PEFT folder (adapterFiles of model/lora.ts) into a running vLLM as the model `name`, which
 * must be a new one each time: its prefix cache knows adapters by their name, so that one loaded in
 * place of another would read on from the other's keys and values, and load_inplace stays with the
 * name and loads the folder for each request. The server must have been started with --enable-lora,
 * --max-lora-rank of at least the rank, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and must see the
 * folder, which has to stay. From then on `vllmSampler({ model: name })` samples from it. Not run
 * against vLLM here.
 */
export async function loadLora(folder: string, name: string, options: HandOver): Promise<void> {
  requireFiles(folder, ["adapter_config.json", "adapter_model.safetensors"], "model/lora.ts");
  const server = openServer("vLLM", options);
  const lora_path = options.pathOnServer ?? folder;
  const body = { lora_name: name, lora_path };
  await server.send("/v1/load_lora_adapter", body).catch((error: Error) => {
    const { cause } = error;
    if (!(cause instanceof CallFailure) || cause.kind !== "status") throw error;
    // A call whose answer was lost has been made again.
    if (cause.status === 400 && /already been loaded/.test(cause.message)) return;
    const remedy =
      cause.status === 404
        ? "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, where it sees "
        : "does it see ";
    throw new UserError(`${error.message}: ${remedy}${lora_path}`, { cause });
  });
}

/** Takes the name of an adapter away again; one that the server does not know is no error. */
export async function unloadLora(name: string, options: ServerOptions): Promise<void> {
  const server = openServer("vLLM", options);
  await server.send("/v1/unload_lora_adapter", { lora_name: name }).catch((error: Error) => {
    const { cause } = error;
    if (!(cause instanceof CallFailure) || cause.kind !== "status") throw error;
  });
}

/**
 * Replaces all weights of a running SGLang by a folder in Hugging Face's layout (saveModel of
 * model/checkpoint.ts): pause, update from disk with a flushed cache, continue, the last also where
 * the update fails. `version` comes back with each of its samples. Not run against SGLang here.
 */
export async function updateFromDisk(
  folder: string,
  version: string,
  options: HandOver,
): Promise<void> {
  requireFiles(folder, ["config.json"], "model/checkpoint.ts");
  const server = openServer("SGLang", options);
  const model_path = options.pathOnServer ?? folder;
  await server.send("/pause_generation", { mode: "abort" });
  try {
    const body = { model_path, flush_cache: true, weight_version: version };
    await server.post("/update_weights_from_disk", body, (answer) => {
      const { success, message } = (answer ?? {}) as { success?: unknown; message?: unknown };
      if (success === true) return;
      const why = excerpt(`${message ?? JSON.stringify(answer)}`);
      throw new UserError(`SGLang at ${server.url} did not take ${model_path}: ${why}`);
    });
  } finally {
    await server.send("/continue_generation", {});
  }
}
