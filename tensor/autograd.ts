/** The tape: what was computed from what, and gradients by walking it backwards. */

import { type Definition, isMissing, type Vjp } from "./op.ts";
import { keep, scope } from "./scope.ts";
import { formatShape, type Shape, sameShape } from "./shape.ts";
import { Tensor } from "./tensor.ts";

/** A value's place in the graph: output `slot` of a graph node, or a leaf (no node). */
export interface Variable {
  readonly graph: Graph | undefined;
  readonly slot: number;
  /** For a leaf: what backward() has summed so far. */
  grad?: Tensor | undefined;
}

let nextId = 0;

/** One recorded op. Counted by the handles on its outputs; the last one lets its inputs go. */
export class Graph {
  readonly id = nextId++;
  readonly definition: Definition;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly variables: readonly Variable[];
  readonly options: unknown;
  /** Of the kept inputs and outputs, in this order, when they were saved. */
  readonly #versions: readonly number[];
  #references = 0;
  #released = false;

  constructor(
    definition: Definition,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    options: unknown,
  ) {
    const keeps = ("keeps" in definition ? definition.keeps : undefined) ?? "inputs";
    const values = (i: number): boolean =>
      typeof keeps === "string" ? keeps === "inputs" || keeps === "both" : keeps.includes(i);
    this.definition = definition;
    this.options = options;
    this.inputs = inputs.map((t, i) => t.alias({ values: values(i) }));
    this.variables = outputs.map((_, slot) => ({ graph: this, slot }));
    // The output's own handles count this node; these aliases must not, or it would keep itself.
    const kept = keeps === "outputs" || keeps === "both";
    this.outputs = outputs.map((t) => {
      return new Tensor(t, t.device, kept ? t.storage : undefined, undefined, true);
    });
    this.#versions = [...this.inputs, ...this.outputs].map(versionOf);
  }

  retain(): this {
    this.#references++;
    return this;
  }
  release(): void {
    if (--this.#references === 0) this.free();
  }

  /** Disposes what was saved. A chain of nodes is freed by a loop, not by recursion. */
  free(): void {
    if (this.#released) return;
    this.#released = true;
    condemned.push(...this.inputs, ...this.outputs);
    if (freeing) return;
    freeing = true;
    for (let t = condemned.pop(); t !== undefined; t = condemned.pop()) t.dispose();
    freeing = false;
  }

  /** The op's VJP on this node's saved values. */
  pullBack(
    cotangents: readonly (Tensor | undefined)[],
    track: boolean,
  ): readonly (Tensor | null)[] {
    const { name, vjp } = this.definition as Definition & { vjp?: Vjp<unknown> };
    if (this.#released) {
      throw new Error(`backward: the graph of ${name} was freed; pass retainGraph to use it twice`);
    }
    if (vjp === undefined || isMissing(vjp)) {
      const reason = isMissing(vjp) ? (vjp as { missing: string }).missing : "no VJP";
      throw new Error(`backward: ${name} has no gradient (${reason})`);
    }
    this.#requireIntact();
    const outputs = track ? this.outputs.map((t, slot) => this.#tracked(t, slot)) : this.outputs;
    const context = { outputs, cotangents, options: this.options, recorded: track };
    const first = cotangents[0] ?? zerosLike(this.outputs[0]!);
    return vjp(first, this.inputs, context);
  }

  #requireIntact(): void {
    const { name, noticesOverwritten } = this.definition;
    const count = this.inputs.length;
    [...this.inputs, ...this.outputs].forEach((t, i) => {
      if (versionOf(t) === this.#versions[i] || (i >= count && noticesOverwritten)) return;
      const which = i < count ? `input ${i}` : `output ${i - count}`;
      const when = i < count ? "use" : "op";
      throw new Error(`backward: ${which} of ${name} was overwritten in place after its ${when}`);
    });
  }

  #tracked(output: Tensor, slot: number): Tensor {
    return new Tensor(output, output.device, output.holds.storage, this.variables[slot]);
  }
}
const versionOf = (t: Tensor): number => t.holds.storage?.version ?? 0;
const condemned: Tensor[] = [];
let freeing = false;

let recording = true;
export const isRecording = (): boolean => recording;

function withRecording<T>(state: boolean, body: () => T): T {
  const before = recording;
  recording = state;
  try {
    return body();
  } finally {
    recording = before;
  }
}

/** Runs `body` without recording: its results are constants. */
export const noGrad = <T>(body: () => T): T => withRecording(false, body);

/** Makes `t` a leaf whose gradient can be asked for. Returns `t`. */
export function requireGrad(t: Tensor): Tensor {
  if (t.dtype !== "f32")
    throw new Error(`requireGrad: dtype is ${t.dtype}, only f32 has gradients`);
  if (t.variable === undefined) t.variable = { graph: undefined, slot: 0 };
  return t;
}

export interface GradientOptions {
  /** Record the backward pass too, so that gradients of gradients exist. */
  readonly createGraph?: boolean;
  /** Keep saved values for a second backward pass over the same graph. */
  readonly retainGraph?: boolean;
  /** d loss / d output to start from; default 1 (the output must then be a scalar). */
  readonly cotangent?: Tensor;
}

/**
 * d output / d each of `wrt` (zeros where the output does not depend on it), same shapes as `wrt`.
 * Visits the graph from the newest node to the oldest; frees saved values unless told otherwise.
 */
export function gradients(
  output: Tensor,
  wrt: readonly Tensor[],
  options: GradientOptions = {},
): Tensor[] {
  return scope(() => {
    const found = walk(output, new Set(wrt.map((t) => t.variable)), options);
    const result = wrt.map((t) => {
      const g = t.variable && found.get(t.variable);
      if (g === undefined) return zerosLike(t);
      return new Tensor(g, g.device, g.storage, options.createGraph ? g.variable : undefined);
    });
    for (const g of found.values()) g.dispose();
    return result;
  });
}

/** Adds d loss / d leaf to `grad` of every leaf under `loss`. */
export function backward(loss: Tensor, options: GradientOptions = {}): void {
  const nodes = reachable(loss.variable?.graph);
  // The loss itself may be a leaf: its gradient is 1.
  const met = [loss.variable, ...nodes.flatMap((node) => node.inputs.map((t) => t.variable))];
  const leaves = new Set(met.filter((v) => v && !v.graph));
  if (leaves.size === 0) throw new Error("backward: no tensor under the loss has requireGrad()");
  scope(() => {
    for (const [leaf, g] of walk(loss, leaves, options)) {
      const tracked = options.createGraph ? g.variable : undefined;
      const fresh = new Tensor(g, g.device, g.storage, tracked);
      g.dispose();
      const total = leaf.grad === undefined ? fresh : noGrad(() => leaf.grad!.add(fresh));
      leaf.grad?.dispose();
      leaf.grad = keep(total);
    }
  });
}

type Cotangents = Map<Variable, Tensor>;

/** Cotangents of all `targets` under `output`; the caller disposes them. */
function walk(output: Tensor, targets: Set<Variable | undefined>, options: GradientOptions) {
  const { createGraph = false, retainGraph = createGraph } = options;
  const cotangents: Cotangents = new Map();
  if (output.variable === undefined) return cotangents;
  cotangents.set(output.variable, seed(output, options.cotangent));
  // Held until their turn: freeing a node lets go of the nodes under it.
  const nodes = reachable(output.variable.graph).map((node) => node.retain());
  try {
    for (const node of nodes) {
      const incoming = node.variables.map((v) => cotangents.get(v));
      if (incoming.some((g) => g !== undefined)) {
        withRecording(createGraph, () => propagate(node, incoming, cotangents, createGraph));
      }
      for (const v of node.variables) if (!targets.has(v)) drop(cotangents, v);
      if (!retainGraph) node.free();
    }
  } catch (error) {
    for (const v of [...cotangents.keys()]) drop(cotangents, v);
    throw error;
  } finally {
    for (const node of nodes) node.release();
  }
  for (const v of [...cotangents.keys()]) if (!targets.has(v)) drop(cotangents, v);
  return cotangents;
}

function drop(cotangents: Cotangents, variable: Variable): void {
  cotangents.get(variable)?.dispose();
  cotangents.delete(variable);
}

function seed(output: Tensor, cotangent: Tensor | undefined): Tensor {
  if (cotangent !== undefined) {
    if (!sameShape(cotangent.shape, output.shape)) {
      const [c, o] = [formatShape(cotangent.shape), formatShape(output.shape)];
      throw new Error(`gradients: cotangent has shape ${c}, the output ${o}`);
    }
    return cotangent.alias();
  }
  if (output.size !== 1) {
    throw new Error(
      `gradients: the output has shape ${formatShape(output.shape)}; reduce it to a scalar, or pass a cotangent`,
    );
  }
  return filled(output, 1).alias();
}

/** Adds this node's contributions to its inputs' cotangents; temporaries die with the scope. */
function propagate(
  node: Graph,
  incoming: readonly (Tensor | undefined)[],
  cotangents: Cotangents,
  track: boolean,
): void {
  scope(() => {
    const results = node.pullBack(incoming, track);
    node.inputs.forEach((input, i) => {
      const result = results[i];
      if (input.variable === undefined || result === null || result === undefined) return;
      const fitted = fit(result, input.shape, node.definition.name);
      const known = cotangents.get(input.variable);
      const total = known === undefined ? fitted : known.add(fitted);
      known?.dispose();
      cotangents.set(input.variable, total.alias());
    });
  });
}

/** Undoes broadcasting: sums or expands `g` to `shape`. The only place that knows of it. */
function fit(g: Tensor, shape: Shape, op: string): Tensor {
  if (sameShape(g.shape, shape)) return g;
  const lead = g.rank - shape.length;
  const summed = g.shape.flatMap((n, axis) => {
    const own = axis < lead ? 1 : shape[axis - lead]!;
    return axis < lead || (own === 1 && n !== 1) ? [axis] : [];
  });
  try {
    const reduced = summed.length === 0 ? g : g.sum({ axes: summed, keepDims: true });
    const aligned = lead > 0 ? reduced.reshape(reduced.shape.slice(lead)) : reduced;
    return sameShape(aligned.shape, shape) ? aligned : aligned.expand(shape);
  } catch (cause) {
    const [got, want] = [formatShape(g.shape), formatShape(shape)];
    throw new Error(`backward: VJP of ${op} gave shape ${got} for an input of ${want}`, { cause });
  }
}

/** All recorded nodes under `root`, newest first: every consumer before its producers. */
function reachable(root: Graph | undefined): Graph[] {
  const seen = new Set<Graph>();
  const queue = root === undefined ? [] : [root];
  for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    for (const { variable } of node.inputs) if (variable?.graph) queue.push(variable.graph);
  }
  return [...seen].sort((a, b) => b.id - a.id);
}

function filled(like: Tensor, value: number): Tensor {
  const { device, shape } = like;
  return constantLike(device, shape, value);
}
const zerosLike = (like: Tensor): Tensor => filled(like, 0);

/** Plugged in by create.ts, which knows how to fill memory. */
type Filler = (device: Tensor["device"], shape: Shape, value: number) => Tensor;
let constantLike: Filler;
export const setFiller = (filler: Filler): void => {
  constantLike = filler;
};

let depth = 0;

type Function_ = (...inputs: Tensor[]) => Tensor;

/**
 * f(x, …) scalar -> (value, [df/dx, …]). Nests: inside another valueAndGrad the backward pass is
 * recorded, so grad(grad(f)) is the second derivative.
 */
export function valueAndGrad(f: Function_): (...inputs: Tensor[]) => [Tensor, Tensor[]] {
  return (...inputs) =>
    scope(() => {
      const outer = depth > 0;
      // A variable of its own, even for a tracked x: f may also close over x itself.
      const leaves = inputs.map((x) => {
        return outer && x.variable ? x.reshape(x.shape) : requireGrad(x.detach());
      });
      depth++;
      try {
        const value = withRecording(true, () => f(...leaves));
        const grads = gradients(value, leaves, { createGraph: outer });
        return [outer ? value : value.detach(), grads] as [Tensor, Tensor[]];
      } finally {
        depth--;
      }
    });
}

/** d f / d each argument; see valueAndGrad. */
export const grad =
  (f: Function_) =>
  (...inputs: Tensor[]) =>
    valueAndGrad(f)(...inputs)[1];
