/** A client of Tinker-compatible training servers: gradients, optimizer steps, states and samples. */

import { UserError } from "../../model/errors.ts";
import type { SampleOptions } from "../../model/sample.ts";
import { mapLimited } from "./limits.ts";
import { CallFailure } from "./retry.ts";
import { type Completion, checkedCompletion, requestSeed, type Sampler } from "./sampler.ts";
import {
  type Calls,
  type CallsOptions,
  OperationFailed,
  openCalls,
  Taken,
} from "./tinker_calls.ts";
import {
  type AdamParams,
  capabilities,
  createdModel,
  type Datum,
  datumOf,
  health,
  type Loss,
  loaded,
  modelInput,
  type Passed,
  passed,
  read,
  type Sampled,
  SDK_VERSION,
  sampled,
  samplingSession,
  saved,
  session,
  stepped,
} from "./tinker_protocol.ts";

export interface TinkerOptions extends CallsOptions {
  /** Name of the base model there. */
  readonly model: string;
  /** Of the adapters; 0: all weights are trained, where the server can. */
  readonly rank: number;
  /** Of the adapters' first values, where the server reads it. */
  readonly seed: number;
  /** Questions asked at a time; default 32. */
  readonly concurrency?: number;
}

/** A model on a server, trained from here. Close it, or declare it with `using`. */
export interface Tinker extends Disposable {
  readonly name: string;
  readonly modelId: string;
  /** Whether a request that is sent again is known as the first: lost answers are then no loss. */
  readonly knowsRepeats: boolean;
  /** Adds the gradient of the loss, summed over all tokens. Gives log π of each datum's targets. */
  forwardBackward(data: readonly Datum[], loss: Loss): Promise<number[][]>;
  /** One step on the sum of the gradients since the last. Gives the server's own figures. */
  optimStep(adam: AdamParams): Promise<Record<string, number | null>>;
  /** Keeps weights and optimizer there. Gives the address to load them from. */
  saveState(name: string): Promise<string>;
  loadState(path: string): Promise<void>;
  /** Samples from the weights as they are now. */
  sampler(name: string): Promise<Sampler>;
}

const HEARTBEAT_MS = 10_000;
/** Data of one request, as their SDK cuts them; the gradients of several requests add up. */
const MOST_DATA = 128;
const MOST_NUMBERS = 500_000;
/** Names tried for what is saved, and times that a sample is asked for. */
const TRIES = 3;

/**
 * Opens a session with a new model on the server, which may still be starting. Throws a UserError
 * where it has no such model.
 */
export async function openTinker(options: TinkerOptions): Promise<Tinker> {
  const { model, rank, seed, concurrency = 32 } = options;
  const calls = openCalls(options);
  await ready(calls);
  await requireModel(calls, model);
  const asked = { tags: ["anamnesis"], user_metadata: {}, sdk_version: SDK_VERSION };
  const opened = await calls.post("create_session", { ...asked, type: "create_session" }, session);
  const { session_id, info_message, warning_message, error_message } = opened;
  for (const text of [info_message, warning_message, error_message]) {
    if (text) calls.print(`${calls.name}: ${text}`);
  }
  const stop = heartbeat(calls, session_id);
  try {
    const body = {
      ...{ session_id, model_seq_id: 0, base_model: model, user_metadata: {} },
      ...{ lora_config: { rank, seed }, type: "create_model" },
    };
    const operation = { body, result: createdModel, repeatable: true };
    const made = await calls.run("create_model", operation);
    const training = trainingOf(calls, made.model_id);
    const knowsRepeats = await training.learnRepeats();
    if (!knowsRepeats) {
      calls.print(
        `${calls.name} doesn't know a request that it had before: a lost answer ends the run, ` +
          "which goes on with --resume",
      );
    }
    return {
      ...{ name: calls.name, modelId: made.model_id, knowsRepeats },
      ...training.operations,
      sampler: samplersOf(calls, session_id, concurrency, (name) =>
        training.save("save_weights_for_sampler", name),
      ),
      [Symbol.dispose]: stop,
    };
  } catch (error) {
    stop();
    throw error;
  }
}

/** A server that says it is starting is waited for like one that is down. */
const ready = (calls: Calls): Promise<void> =>
  calls.get("healthz", (answer) => {
    const { status } = read(health, "healthz", answer);
    if (!/initiali|starting|loading/i.test(status)) return;
    throw new CallFailure("status", `it is ${status}`, { status: 503 });
  });

async function requireModel(calls: Calls, model: string): Promise<void> {
  const path = "get_server_capabilities";
  const found = await calls.get(path, (answer) => read(capabilities, path, answer));
  const names = found.supported_models.flatMap(({ model_name: name }) => (name ? [name] : []));
  if (names.length === 0 || names.includes(model)) return;
  const shown = names.slice(0, 8).join(", ") + (names.length > 8 ? ", …" : "");
  throw new UserError(`${calls.name} has no model ${model}: it has ${shown}`);
}

/** Says now and then that we are still there: a session without it ends. Returns what stops it. */
function heartbeat(calls: Calls, session_id: string): () => void {
  const beat = () =>
    void calls.tell("session_heartbeat", { session_id, type: "session_heartbeat" });
  const timer = setInterval(beat, HEARTBEAT_MS);
  return () => clearInterval(timer);
}

/**
 * What changes or keeps one model. Each request has the next number of a sequence: servers do them in
 * this order, and some know by it a request that comes again.
 */
function trainingOf(calls: Calls, model_id: string) {
  let seq_id = 0;
  let knowsRepeats = false;
  const numbered = (body: object) => ({ model_id, seq_id: ++seq_id, ...body });

  async function forwardBackward(data: readonly Datum[], loss: Loss): Promise<number[][]> {
    const found: number[][] = [];
    for (const part of parts(data)) {
      const { loss_fn_outputs } = await calls.run("forward_backward", {
        body: numbered({ forward_backward_input: { data: part, ...loss } }),
        ...{ result: passed, repeatable: knowsRepeats },
        check: (result) => requireLogProbs(part, result),
      });
      found.push(...loss_fn_outputs.map(({ logprobs }) => logprobs.data));
    }
    return found;
  }

  async function optimStep(adam_params: AdamParams): Promise<Record<string, number | null>> {
    const body = numbered({ adam_params, type: "optim_step" });
    const operation = { body, result: stepped, repeatable: knowsRepeats };
    return (await calls.run("optim_step", operation)).metrics ?? {};
  }

  /**
   * Saving twice does no harm, but a name is taken once: by another run, or by a request of ours
   * whose answer was lost. Then another name is.
   */
  async function save(path: "save_weights" | "save_weights_for_sampler", name: string) {
    for (let n = 1; ; n++) {
      const body = numbered({ path: n === 1 ? name : `${name}-${n}`, type: path });
      try {
        return (await calls.run(path, { body, result: saved, repeatable: true })).path;
      } catch (error) {
        if (!(error instanceof Taken) || n === TRIES) throw error;
      }
    }
  }

  async function loadState(path: string): Promise<void> {
    const body = numbered({ path, optimizer: true, type: "load_weights" });
    await calls.run("load_weights", { body, result: loaded, repeatable: true });
  }

  /** Sends one request twice that changes nothing: is the second known as the first? */
  async function learnRepeats(): Promise<boolean> {
    const data = [datumOf([1], [1], { weights: [1] })];
    const body = numbered({ forward_input: { data, loss_fn: "cross_entropy" } });
    try {
      const ids = [];
      for (const _ of [1, 2]) ids.push(await calls.submit("forward", { body, repeatable: true }));
      knowsRepeats = ids[0] === ids[1];
      if (knowsRepeats) calls.allowRepeats();
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      seq_id--; // It has no such operation, and counts none.
    }
    return knowsRepeats;
  }

  const saveState = (name: string) => save("save_weights", name);
  return { operations: { forwardBackward, optimStep, saveState, loadState }, save, learnRepeats };
}

/** Data in parts that one request holds. */
function parts(data: readonly Datum[]): Datum[][] {
  const found: Datum[][] = [];
  let numbers = 0;
  for (const datum of data) {
    const tensors = Object.values(datum.loss_fn_inputs);
    const own = tensors.reduce((total, { shape }) => total + shape[0], tensors[0]!.shape[0]);
    const last = found.at(-1);
    if (last === undefined || last.length === MOST_DATA || numbers + own > MOST_NUMBERS) {
      found.push([datum]);
      numbers = own;
    } else {
      last.push(datum);
      numbers += own;
    }
  }
  return found;
}

function requireLogProbs(data: readonly Datum[], { loss_fn_outputs: outputs }: Passed): void {
  if (outputs.length !== data.length) {
    throw new CallFailure("nonsense", `${outputs.length} outputs for ${data.length} sequences`);
  }
  data.forEach(({ loss_fn_inputs }, i) => {
    const [have, want] = [outputs[i]!.logprobs.data.length, loss_fn_inputs.target_tokens!.shape[0]];
    if (have === want) return;
    throw new CallFailure("nonsense", `${have} log-probabilities for ${want} tokens`);
  });
}

/** Makes samplers of the weights as they are when it is asked for one. */
function samplersOf(
  calls: Calls,
  session_id: string,
  concurrency: number,
  save: (name: string) => Promise<string>,
): Tinker["sampler"] {
  let sessions = 0;
  return async (name) => {
    const body = {
      ...{ session_id, sampling_session_seq_id: sessions++, model_path: await save(name) },
      type: "create_sampling_session",
    };
    const made = await calls.post("create_sampling_session", body, samplingSession);
    let asked = 0;
    const next = () => ({ sampling_session_id: made.sampling_session_id, seq_id: asked++ });
    return {
      name: calls.name,
      async sample(prompts, options) {
        const groups = await mapLimited(prompts, concurrency, (prompt, p) =>
          completions(calls, next, prompt, p, options),
        );
        const all = groups.flat();
        return {
          tokens: all.map(({ tokens }) => tokens),
          logProbs: all.map(({ logProbs }) => logProbs),
          finished: all.map(({ finished }) => finished),
        };
      },
    };
  };
}

/** The samples of one prompt. One that failed, or whose result was lost, is asked for again. */
async function completions(
  calls: Calls,
  next: () => object,
  prompt: readonly number[],
  p: number,
  options: SampleOptions,
): Promise<Completion[]> {
  const { samplesPerPrompt: n = 1, maxNewTokens, stopTokens = [], temperature = 1 } = options;
  const { seed = 0, step = 0, promptIds } = options;
  const sampling_params = {
    ...{ max_tokens: maxNewTokens, temperature, top_p: 1, top_k: -1 },
    seed: requestSeed(seed, step, (promptIds?.[p] ?? p) * n),
    ...(stopTokens.length > 0 && { stop: stopTokens }),
  };
  const body = { num_samples: n, prompt: modelInput(prompt), sampling_params, type: "sample" };
  const take = ({ sequences }: Sampled): Completion[] => {
    if (sequences.length !== n) {
      const text = `${sequences.length} samples where ${n} were asked for`;
      throw new CallFailure("nonsense", text);
    }
    return sequences.map(({ tokens, logprobs: logProbs, stop_reason: reason }) =>
      checkedCompletion({ tokens, logProbs, reason }, options),
    );
  };
  for (let tries = 1; ; tries++) {
    try {
      const operation = { body: { ...body, ...next() }, result: sampled, repeatable: true };
      return take(await calls.run("asample", { ...operation, check: take }));
    } catch (error) {
      if (!(error instanceof OperationFailed) || tries === TRIES) throw error;
      await calls.clock.sleep(1000 * tries);
    }
  }
}
