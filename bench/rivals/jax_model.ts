/** The transformer of model/transformer.ts in jax-js: one jitted training step, jitted decoding. */

import { readFileSync } from "node:fs";
import type { Jax, JaxArray } from "./jax_types.ts";
import type { Prepared } from "./protocol.ts";
import {
  ADAMW,
  CHECKED_ROWS,
  CHECKED_STEPS,
  type DecodeTask,
  MODEL_NORM_EPS,
  ROPE_THETA,
  type StepTask,
  sizeOf,
} from "./tasks.ts";

type Weights = Record<string, JaxArray>;
type Task = StepTask | DecodeTask;

const POSITIONS = 128;

/** What attention does with a layer's queries, keys and values [b h t d]. */
type Attend = (layer: number, q: JaxArray, k: JaxArray, v: JaxArray) => JaxArray;

function weightsOf({ numpy }: Jax, task: Task): Weights {
  const bytes = readFileSync(task.file);
  let at = bytes.byteOffset;
  const read = ([name, shape]: readonly [string, readonly number[]]) => {
    const values = new Float32Array(bytes.buffer, at, sizeOf(shape));
    at += values.byteLength;
    return [name, numpy.array(Float32Array.from(values)).reshape(shape)] as const;
  };
  return Object.fromEntries(task.weights.map(read));
}

/** cos and sin of the rotary angles, [positions d/2]. */
function ropeTables({ numpy }: Jax, { width, heads }: Task, positions: number) {
  const half = width / heads / 2;
  const table = (f: (angle: number) => number): JaxArray => {
    const angle = (i: number) => Math.floor(i / half) * ROPE_THETA ** (-(i % half) / half);
    const values = Float32Array.from({ length: positions * half }, (_, i) => f(angle(i)));
    return numpy.array(values).reshape([positions, half]);
  };
  return { cos: table(Math.cos), sin: table(Math.sin) };
}

/** Logits [b·t vocabulary] of tokens i32 [b·t]. Uses up the weights, but not cos and sin [t d/2]. */
function logits(
  jax: Jax,
  task: Task,
  weights: Weights,
  tokens: JaxArray,
  pass: { b: number; t: number; cos: JaxArray; sin: JaxArray; attend: Attend },
): JaxArray {
  const { numpy: np, nn } = jax;
  const { b, t, cos, sin, attend } = pass;
  const weight = (name: string): JaxArray => weights[`${name}.weight`]!;
  const linear = (x: JaxArray, name: string) => np.matmul(x, np.transpose(weight(name)));
  const norm = (x: JaxArray, name: string): JaxArray => {
    const mean = np.mean(np.square(x.ref), -1, { keepdims: true });
    return x.div(np.sqrt(mean.add(MODEL_NORM_EPS))).mul(weight(name));
  };
  const split = (x: JaxArray) => np.transpose(x.reshape([b, t, task.heads, -1]), [0, 2, 1, 3]);
  const rope = (x: JaxArray): JaxArray => {
    const [first, second] = np.split(x, 2, -1) as [JaxArray, JaxArray];
    const low = first.ref.mul(cos.ref).sub(second.ref.mul(sin.ref));
    return np.concatenate([low, second.mul(cos.ref).add(first.mul(sin.ref))], -1);
  };
  let x = np.take(weight("model.embed_tokens"), tokens, 0);
  for (let layer = 0; layer < task.depth; layer++) {
    const name = `model.layers.${layer}`;
    const y = norm(x.ref, `${name}.input_layernorm`);
    const q = rope(split(linear(y.ref, `${name}.self_attn.q_proj`)));
    const k = rope(split(linear(y.ref, `${name}.self_attn.k_proj`)));
    const v = split(linear(y, `${name}.self_attn.v_proj`));
    const mixed = np.transpose(attend(layer, q, k, v), [0, 2, 1, 3]).reshape([b * t, task.width]);
    x = x.add(linear(mixed, `${name}.self_attn.o_proj`));
    const z = norm(x.ref, `${name}.post_attention_layernorm`);
    const gate = nn.silu(linear(z.ref, `${name}.mlp.gate_proj`));
    x = x.add(linear(gate.mul(linear(z, `${name}.mlp.up_proj`)), `${name}.mlp.down_proj`));
  }
  return linear(norm(x, "model.norm"), "lm_head");
}

/** softmax(q·kᵀ/√d where `visible`)·v */
function attention(jax: Jax, q: JaxArray, k: JaxArray, v: JaxArray, visible: JaxArray): JaxArray {
  const { numpy: np, nn } = jax;
  const scores = np.einsum("bhtd,bhsd->bhts", q, k).mul(1 / Math.sqrt(q.shape.at(-1)!));
  return np.einsum("bhts,bhsd->bhtd", nn.softmax(np.where(visible, scores, -1e9)), v);
}

const causal = ({ numpy: np }: Jax, t: number): JaxArray => np.greater(np.tril(np.ones([t, t])), 0);

const names = (weights: Weights): string[] => Object.keys(weights);

/** One AdamW update as a function of weights, moments and their corrections; uses all of them up. */
function adamW(jax: Jax, state: State, gradients: Weights, c1: JaxArray, c2: JaxArray) {
  const { numpy: np } = jax;
  const { learningRate, beta1, beta2, eps, weightDecay, clipNorm } = ADAMW;
  const squares = Object.values(gradients).map((g) => np.sum(np.square(g.ref)));
  const norm = np.sqrt(squares.reduce((total, square) => total.add(square)));
  const factor = np.minimum(np.array(Float32Array.of(clipNorm)).div(norm.ref.add(1e-6)), 1);
  const next: State = { weights: {}, first: {}, second: {} };
  for (const name of names(gradients)) {
    const g = gradients[name]!.mul(factor.ref);
    const first = state.first[name]!.mul(beta1).add(g.ref.mul(1 - beta1));
    const second = state.second[name]!.mul(beta2).add(np.square(g).mul(1 - beta2));
    const scale = np.sqrt(second.ref.mul(c2.ref)).add(eps);
    const move = first.ref.mul(c1.ref).div(scale).mul(learningRate);
    const weight = state.weights[name]!;
    const decay = weight.shape.length >= 2 ? 1 - learningRate * weightDecay : 1;
    next.weights[name] = weight.mul(decay).sub(move);
    next.first[name] = first;
    next.second[name] = second;
  }
  for (const x of [factor, c1, c2]) x.dispose();
  return { state: next, norm };
}

interface State {
  readonly weights: Weights;
  readonly first: Weights;
  readonly second: Weights;
}

export function step(jax: Jax, task: StepTask): Prepared {
  const { numpy: np, nn } = jax;
  const { rows: b, positions: t, vocabulary } = task;
  const { cos, sin } = ropeTables(jax, task, t);
  const attend: Attend = (_, q, k, v) => attention(jax, q, k, v, causal(jax, t));
  const lossOf = (weights: Weights, tokens: JaxArray, targets: JaxArray): JaxArray => {
    const scores = logits(jax, task, weights, tokens, { b, t, cos, sin, attend });
    const chosen = nn.logSoftmax(scores).mul(nn.oneHot(targets, vocabulary));
    return np.sum(chosen).mul(-1 / (b * t));
  };
  const update = jax.jit(((state, tokens, targets, c1, c2) => {
    const own = jax.tree.ref(state.weights as never) as Weights;
    const [loss, gradients] = jax.valueAndGrad(lossOf)(own, tokens, targets);
    const done = adamW(jax, state, gradients, c1, c2);
    return { ...done, loss } as never;
  }) as Update);

  const weights = weightsOf(jax, task);
  const moments = (): Weights =>
    Object.fromEntries(task.weights.map(([name, shape]) => [name, np.zeros(shape)]));
  let state: State = { weights, first: moments(), second: moments() };
  const tokens = np.array(Int32Array.from(task.tokens));
  const targets = np.array(Int32Array.from(task.targets));
  let count = 0;
  const run = async (): Promise<number> => {
    count++;
    const corrections = [ADAMW.beta1, ADAMW.beta2].map((beta) =>
      np.array(Float32Array.of(1 / (1 - beta ** count))),
    ) as [JaxArray, JaxArray];
    const done = update(state, tokens.ref, targets.ref, ...corrections);
    state = done.state;
    await jax.blockUntilReady(done.state as never);
    await done.norm.data();
    return (await done.loss.data())[0]!;
  };
  const check = async (): Promise<number[]> => {
    const losses: number[] = [];
    for (let i = 0; i < CHECKED_STEPS; i++) losses.push(await run());
    return losses;
  };
  const release = () => {
    for (const part of [state.weights, state.first, state.second]) jax.tree.dispose(part);
    for (const x of [tokens, targets, cos, sin]) x.dispose();
    update.dispose();
  };
  return { run, check, release };
}

type Update = (
  state: State,
  tokens: JaxArray,
  targets: JaxArray,
  c1: JaxArray,
  c2: JaxArray,
) => { state: State; norm: JaxArray; loss: JaxArray } & JaxArray;

/** Keys and values of every layer, a static [b h capacity d] each. */
type Cache = Record<string, JaxArray>;
type Next = (
  weights: Weights,
  cache: Cache,
  tokens: JaxArray,
  position: JaxArray,
  seed: JaxArray,
) => { cache: Cache; tokens: JaxArray; logProbs: JaxArray } & JaxArray;

/** Static caches; a jitted pass over the prompts, and one over a token a row, for all places. */
export function decode(jax: Jax, task: DecodeTask): Prepared {
  const { numpy: np, nn } = jax;
  const length = task.prompts[0]!.length;
  const capacity = length + task.newTokens;
  const weights = weightsOf(jax, task);
  const { cos, sin } = ropeTables(jax, task, POSITIONS);
  const rowsOf = (table: JaxArray, places: JaxArray) => np.take(table.ref, places, 0);

  /** Draws from the logits of the last places; keeps each token's log-probability. */
  const draw = (scores: JaxArray, seed: JaxArray, greedy: boolean) => {
    const logProbs = nn.logSoftmax(scores);
    const drawn = greedy
      ? np.argmax(logProbs.ref, -1)
      : jax.random.categorical(jax.random.key(seed.ref as never), logProbs.ref);
    seed.dispose();
    const chosen = np.sum(logProbs.mul(nn.oneHot(drawn.ref, task.vocabulary)), -1);
    return { tokens: drawn, logProbs: chosen };
  };

  const makePrefill = (b: number, greedy: boolean) =>
    jax.jit(((own, tokens, seed) => {
      const cache: Cache = {};
      const padding = [b, task.heads, task.newTokens, task.width / task.heads];
      const attend: Attend = (layer, q, k, v) => {
        cache[`k${layer}`] = np.concatenate([k.ref, np.zeros(padding)], 2);
        cache[`v${layer}`] = np.concatenate([v.ref, np.zeros(padding)], 2);
        return attention(jax, q, k, v, causal(jax, length));
      };
      const tables = { cos: rowsOf(cos, np.arange(length)), sin: rowsOf(sin, np.arange(length)) };
      const scores = logits(jax, task, own, tokens, { b, t: length, ...tables, attend });
      const last = np
        .arange(b)
        .mul(length)
        .add(length - 1);
      return { cache, ...draw(np.take(scores, last, 0), seed, greedy) } as never;
    }) as (own: Weights, tokens: JaxArray, seed: JaxArray) => ReturnType<Next>);

  const makeNext = (b: number, greedy: boolean) =>
    jax.jit(((own, cache, tokens, position, seed) => {
      const next: Cache = {};
      const places = (): JaxArray => np.arange(capacity).reshape([1, 1, capacity, 1]);
      const attend: Attend = (layer, q, k, v) => {
        const put = (name: string, fresh: JaxArray): JaxArray => {
          const here = np.equal(places(), position.ref.reshape([1, 1, 1, 1]));
          next[name] = np.where(here, fresh, cache[name]!);
          return next[name].ref;
        };
        const seen = np.lessEqual(
          places().reshape([1, 1, 1, capacity]),
          position.ref.reshape([1, 1, 1, 1]),
        );
        return attention(jax, q, put(`k${layer}`, k), put(`v${layer}`, v), seen);
      };
      const tables = { cos: rowsOf(cos, position.ref), sin: rowsOf(sin, position.ref) };
      const scores = logits(jax, task, own, tokens, { b, t: 1, ...tables, attend });
      return { cache: next, ...draw(scores, seed, greedy) } as never;
    }) as Next);

  const sampler = (b: number, greedy: boolean) => {
    const [prefill, next] = [makePrefill(b, greedy), makeNext(b, greedy)];
    const prompts = np.array(Int32Array.from(task.prompts.slice(0, b).flat()));
    const int = (value: number): JaxArray => np.array(Int32Array.of(value));
    return async (): Promise<number[][]> => {
      const own = () => jax.tree.ref(weights);
      let state = prefill(own(), prompts.ref, int(0).reshape([]));
      const drawn: number[][] = [];
      for (let i = 0; ; i++) {
        drawn.push([...((await state.tokens.ref.data()) as Int32Array)]);
        await state.logProbs.data();
        if (i + 1 === task.newTokens) break;
        state = next(own(), state.cache, state.tokens, int(length + i), int(i + 1).reshape([]));
      }
      jax.tree.dispose(state.cache);
      state.tokens.dispose();
      return drawn;
    };
  };
  const all = sampler(task.prompts.length, false);
  return {
    run: all,
    check: async () => {
      const drawn = await sampler(CHECKED_ROWS, true)();
      return Array.from({ length: CHECKED_ROWS }, (_, row) =>
        drawn.map((step) => step[row]!),
      ).flat();
    },
    release: () => {
      jax.tree.dispose(weights);
      for (const x of [cos, sin]) x.dispose();
    },
  };
}
