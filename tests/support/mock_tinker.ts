/** A mock Tinker server: the protocol as its clients and servers have it, on our own model in f32. */

import type { Batch } from "../../model/batch.ts";
import { makeLora } from "../../model/lora.ts";
import { AdamW, overwrite } from "../../model/optimizer.ts";
import {
  cloneParameters,
  gradientsOf,
  type ParameterTree,
  requireGradients,
} from "../../model/parameters.ts";
import { sample } from "../../model/sample.ts";
import { batchLogProbs } from "../../model/score.ts";
import { scope, type Tensor, tensor } from "../../tensor/mod.ts";
import type { MockModel, MockOptions } from "./mock_engines.ts";
import type { Answer, Received } from "./mock_server.ts";

export interface MockTinkerOptions extends MockOptions {
  /** Whether a request with a number that was there is known as the first (SkyRL), or not (verl). */
  readonly knowsRepeats?: boolean;
  /** One model for everybody, whatever is created (verl). */
  readonly oneModel?: boolean;
  /** Questions for a result that are answered with "try again" first. */
  readonly delay?: number;
}

export const BASE = "tiny/base";

/** What a server trains, and what a state of it holds. */
interface Trained {
  readonly parameters: ParameterTree;
  readonly trainable: ParameterTree;
  optimizer: AdamW | undefined;
  gradients: Map<string, Tensor> | undefined;
  readonly seen: Map<number, { id: string; body: string }>;
}

interface State {
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly moments: readonly ReadonlyMap<string, Float32Array>[] | undefined;
  readonly steps: number;
}

interface Future {
  asked: number;
  done: { json: object; status?: number } | undefined;
}

// biome-ignore lint/suspicious/noExplicitAny: JSON of a client under test
type Json = any;

const valuesOf = async (tree: ParameterTree): Promise<Map<string, Float32Array>> =>
  new Map(
    await Promise.all(
      [...tree].map(async ([name, t]) => [name, Float32Array.from(await t.data())] as const),
    ),
  );

function write(tree: ParameterTree, values: ReadonlyMap<string, Float32Array>): void {
  for (const [name, t] of tree) {
    const from = tensor(values.get(name)!, t.shape);
    overwrite(t, from, name);
    from.dispose();
  }
}

export function mockTinker(model: MockModel, options: MockTinkerOptions) {
  const { knowsRepeats = true, oneModel = false, delay = 0, stop } = options;
  const draws = options.draws ?? ((seed: number) => ({ seed }));
  const models = new Map<string, Trained>();
  const futures = new Map<string, Future>();
  const states = new Map<string, State>();
  const taken = new Set<string>();
  const samplingSessions = new Map<string, string>();
  /** Operations in the order in which they were done. */
  const done: string[] = [];
  /** What fails, by its name: asked for each operation before it is done. */
  let fault: (operation: string) => string | undefined = () => undefined;
  let [ids, queue] = [0, Promise.resolve()];

  function create({ base_model, lora_config }: Json): string {
    const id = oneModel ? "the-model" : `model-${ids++}`;
    if (base_model !== BASE) throw new Error(`no model ${base_model}`);
    if (models.has(id)) return id;
    const { rank, seed } = lora_config;
    const settings = { rank, alpha: 16, targets: ["q_proj", "v_proj"] as const };
    const lora = rank > 0 ? makeLora(model.config, model.parameters, settings, seed) : undefined;
    const own = lora ? lora.parameters : cloneParameters(model.parameters);
    const trainable = requireGradients(lora ? lora.adapters : own);
    const rest = { optimizer: undefined, gradients: undefined, seen: new Map() };
    models.set(id, { parameters: own, trainable, ...rest });
    return id;
  }

  /** log π of each target, and the loss of one datum as the service documents it. */
  function lossOf(logProbs: Tensor, inputs: Json, { loss_fn, loss_fn_config: bounds }: Json) {
    const row = (name: string): Tensor => {
      const { data, shape, dtype } = inputs[name];
      if (dtype !== "float32" || data.length !== shape[0]) throw new Error(`${name}: ${dtype}`);
      return tensor(data, [1, data.length]);
    };
    if (loss_fn === "cross_entropy") return logProbs.mul(row("weights")).sum().neg();
    const [old, advantages] = [row("logprobs"), row("advantages")];
    const ratio = logProbs.sub(old).exp();
    if (loss_fn === "importance_sampling") return ratio.mul(advantages).sum().neg();
    const clipped = ratio.clamp(bounds.clip_low_threshold, bounds.clip_high_threshold);
    if (loss_fn === "ppo") {
      return ratio.mul(advantages).minimum(clipped.mul(advantages)).sum().neg();
    }
    if (loss_fn === "cispo") return clipped.detach().mul(advantages).mul(logProbs).sum().neg();
    throw new Error(`unknown loss ${loss_fn}`);
  }

  async function pass(own: Trained, input: Json, backward: boolean): Promise<object> {
    const outputs: object[] = [];
    let total = 0;
    for (const { model_input, loss_fn_inputs: inputs } of input.data) {
      const tokens = model_input.chunks.flatMap((chunk: Json) => {
        if (chunk.type !== "encoded_text") throw new Error(`chunk ${chunk.type}`);
        return chunk.tokens;
      });
      const targets = inputs.target_tokens.data;
      if (targets.length !== tokens.length) throw new Error("targets are not shifted by one");
      const batch: Batch = {
        shape: [1, tokens.length],
        ...{ tokens: Int32Array.from(tokens), targets: Int32Array.from(targets) },
      };
      const [kept, value] = scope(() => {
        const logProbs = batchLogProbs(own.parameters, model.config, batch);
        const loss = lossOf(logProbs, inputs, input);
        if (backward) own.gradients = gradientsOf(loss, own.trainable, own.gradients);
        const sums = backward ? [...own.gradients!.values()] : [];
        return [logProbs.detach(), loss.detach(), ...sums] as const;
      });
      const data = Array.from(await kept.data());
      total += (await value.data())[0]!;
      kept.dispose();
      value.dispose();
      outputs.push({ logprobs: { data, dtype: "float32", shape: [data.length] } });
    }
    const metrics = { "loss:sum": total };
    return { loss_fn_output_type: "ArrayRecord", loss_fn_outputs: outputs, metrics };
  }

  async function step(own: Trained, { adam_params: adam }: Json): Promise<object> {
    if (own.gradients === undefined) throw new Error("no gradients");
    own.optimizer ??= new AdamW(own.trainable, {
      ...{ betas: [adam.beta1, adam.beta2], eps: adam.eps, weightDecay: adam.weight_decay },
      clipNorm: adam.grad_clip_norm,
    });
    const norm = own.optimizer.update(own.gradients, adam.learning_rate);
    const [value] = await norm.data();
    for (const t of [...own.gradients.values(), norm]) t.dispose();
    own.gradients = undefined;
    return { metrics: { "mock/grad_norm": value }, type: "optim_step" };
  }

  async function keep(own: Trained): Promise<State> {
    const moments = own.optimizer?.exportState();
    return {
      weights: await valuesOf(own.trainable),
      moments: moments && [
        await valuesOf(moments.firstMoments),
        await valuesOf(moments.secondMoments),
      ],
      steps: moments?.step ?? 0,
    };
  }

  function load(own: Trained, { path, optimizer }: Json): object {
    const state = states.get(path);
    if (state === undefined || optimizer !== true) throw new Error(`no state ${path}`);
    write(own.trainable, state.weights);
    own.optimizer?.dispose();
    own.optimizer = undefined;
    if (state.moments) {
      // Rates are given with each step; the rest of Adam's settings are what our runs have.
      own.optimizer = new AdamW(own.trainable, {
        betas: [0.9, 0.999],
        weightDecay: 0,
        clipNorm: 1,
      });
      const [first, second] = state.moments.map(
        (values) =>
          new Map(
            [...own.trainable].map(([name, t]) => [name, tensor(values.get(name)!, t.shape)]),
          ),
      );
      const moments = { firstMoments: first!, secondMoments: second! };
      own.optimizer.importState({ step: state.steps, ...moments });
      for (const t of [...first!.values(), ...second!.values()]) t.dispose();
    }
    return { path, type: "load_weights" };
  }

  /** Samples from what was saved, whatever the model has become since. */
  async function sampleFrom(path: string, body: Json): Promise<object> {
    const own = models.get(path.split("/")[2]!)!;
    const { num_samples: n, sampling_params: asked } = body;
    const now = await valuesOf(own.trainable);
    write(own.trainable, states.get(path)!.weights);
    const prompt = body.prompt.chunks.flatMap(({ tokens }: Json) => tokens);
    const found = await sample(own.parameters, model.config, [prompt], {
      ...{ samplesPerPrompt: n, maxNewTokens: asked.max_tokens, temperature: asked.temperature },
      ...{ stopTokens: asked.stop ?? [stop], ...draws(asked.seed) },
    });
    write(own.trainable, now);
    const sequences = found.tokens.map((tokens, i) => ({
      ...{ tokens, logprobs: found.logProbs[i] },
      stop_reason: found.finished[i] ? "stop" : "length",
    }));
    return { type: "sample", sequences, prompt_logprobs: null };
  }

  function perform(name: string, body: Json): Promise<object> | object {
    if (name === "create_model") return { type: name, model_id: create(body) };
    if (name === "asample") {
      return sampleFrom(samplingSessions.get(body.sampling_session_id)!, body);
    }
    const own = models.get(body.model_id)!;
    switch (name) {
      case "forward":
        return pass(own, body.forward_input, false);
      case "forward_backward":
        return pass(own, body.forward_backward_input, true);
      case "optim_step":
        return step(own, body);
      case "load_weights":
        return load(own, body);
      default: {
        const kind = name === "save_weights" ? "weights" : "sampler_weights";
        const path = `tinker://${body.model_id}/${kind}/${body.path}`;
        return keep(own).then((state) => {
          states.set(path, state);
          return { path, type: name };
        });
      }
    }
  }

  /** Puts an operation behind those before it; what it gives is asked for by the id. */
  function begin(name: string, body: Json): Answer {
    const isTraining = body.model_id !== undefined;
    const own = isTraining ? models.get(body.model_id) : undefined;
    if (isTraining && own === undefined) return refused(404, "Model not found");
    if (name === "asample" && !samplingSessions.has(body.sampling_session_id)) {
      return refused(404, "Sampling session not found");
    }
    const known = knowsRepeats ? own?.seen.get(body.seq_id) : undefined;
    if (known !== undefined && known.body !== JSON.stringify(body)) {
      return refused(409, "Training request sequence number was reused");
    }
    if (known === undefined && name.startsWith("save_")) {
      const key = `${body.model_id} ${name} ${body.path}`;
      if (taken.has(key)) return refused(409, `Checkpoint ${body.path} already exists`);
      taken.add(key);
    }
    if (known !== undefined) return { json: { request_id: known.id, future_id: known.id } };
    const id = `${ids++}`;
    own?.seen.set(body.seq_id, { id, body: JSON.stringify(body) });
    const future: Future = { asked: 0, done: undefined };
    futures.set(id, future);
    queue = queue.then(async () => {
      const error = fault(name);
      done.push(name);
      try {
        if (error !== undefined) throw new Error(error);
        future.done = { json: await perform(name, body) };
      } catch (cause) {
        future.done = { json: { error: (cause as Error).message, category: "server" } };
      }
    });
    return { json: { request_id: id, status: "pending" } };
  }

  async function retrieve(id: string): Promise<Answer> {
    const future = futures.get(id);
    if (future === undefined) return refused(404, "Future not found");
    if (future.asked++ < delay) {
      return { json: { type: "try_again", request_id: id, queue_state: "active" } };
    }
    await queue;
    return future.done!;
  }

  async function answer({ method, path, body }: Received): Promise<Answer> {
    const name = path.replace(/^\/api\/v1\//, "");
    if (method === "GET" && name === "healthz") return { json: { status: "ok" } };
    if (method === "GET" && name === "get_server_capabilities") {
      return { json: { supported_models: [{ model_name: BASE }] } };
    }
    switch (name) {
      case "create_session":
        return { json: { type: name, session_id: "session-1", info_message: null } };
      case "session_heartbeat":
        return { json: { type: name } };
      case "retrieve_future":
        return retrieve(body.request_id);
      case "create_sampling_session": {
        if (!states.has(body.model_path)) return refused(404, "Checkpoint not found");
        const id = `sampling-${ids++}`;
        samplingSessions.set(id, body.model_path);
        return { json: { type: name, sampling_session_id: id } };
      }
      default:
        return begin(name, body);
    }
  }

  return {
    ...{ answer, done, states },
    /** What is trained, of the model that was used last. */
    weights: async (): Promise<Map<string, number[]>> => {
      const own = [...models.values()].at(-1)!;
      return new Map([...(await valuesOf(own.trainable))].map(([k, v]) => [k, Array.from(v)]));
    },
    failing(next: typeof fault): void {
      fault = next;
    },
    /** The process ends and another begins: what it had saved is still there. */
    restart(): void {
      models.clear();
      futures.clear();
      samplingSessions.clear();
    },
  };
}

export type MockTinker = ReturnType<typeof mockTinker>;

const refused = (status: number, detail: string): Answer => ({ status, json: { detail } });
