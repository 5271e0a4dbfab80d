/** What bench/scaling.ts measures: the base sizes, the values of each axis, a step at a point. */

import { AdamW } from "../model/optimizer.ts";
import { disposeParameters } from "../model/parameters.ts";
import { pretrain } from "../model/pretrain.ts";
import { sample } from "../model/sample.ts";
import { flopsPerToken, modelOf, randomBatch } from "./support.ts";

export const AXES = ["width", "depth", "batch", "length", "vocabulary"] as const;
export type Axis = (typeof AXES)[number];
/** Sizes of the model, sequences, and tokens of each. */
export type Point = Readonly<Record<Axis, number>>;

export interface Workload {
  readonly point: Point;
  /** Multiplications and additions of one step, in 10⁹. */
  readonly gflop: number;
  /** Runs `steps` steps. */
  readonly step: () => Promise<unknown>;
  readonly steps: number;
  readonly dispose: () => void;
}

export interface Kind {
  readonly name: string;
  readonly base: Point;
  readonly values: Readonly<Record<Axis, readonly number[]>>;
  readonly workload: (point: Point) => Workload;
}

/** A step is what pretrain() does: forward, loss, backward, clipping, AdamW, two numbers read. */
export const TRAINING: Kind = {
  name: "training step",
  base: { width: 128, depth: 4, batch: 32, length: 64, vocabulary: 256 },
  values: {
    width: [32, 64, 128, 256],
    depth: [1, 2, 4, 8],
    batch: [8, 16, 32, 64],
    length: [16, 32, 64, 128],
    vocabulary: [64, 256, 1024, 4096],
  },
  workload(point) {
    const { batch: rows, length, vocabulary } = point;
    const { config, parameters, inner } = modelOf(point);
    const optimizer = new AdamW(parameters, { clipNorm: 1 });
    const batch = randomBatch(rows, length, vocabulary);
    const perToken = flopsPerToken(point, inner, { positions: length, training: true });
    let done = 0;
    const step = () =>
      pretrain({
        ...{ parameters, config, optimizer, steps: ++done },
        ...{ batches: () => batch, schedule: () => 1e-3 },
      });
    const dispose = () => {
      optimizer[Symbol.dispose]();
      disposeParameters(parameters);
    };
    return { point, gflop: (perToken * rows * length) / 1e9, step, steps: 1, dispose };
  },
};

/** A step draws one token for every sequence; `length` tokens after prompts of two. */
export const DECODING: Kind = {
  name: "decoding step",
  base: { width: 128, depth: 4, batch: 64, length: 32, vocabulary: 256 },
  values: {
    width: [32, 64, 128, 256],
    depth: [1, 2, 4, 8],
    batch: [16, 32, 64, 256],
    length: [16, 32, 64, 120],
    vocabulary: [64, 256, 1024, 4096],
  },
  workload(point) {
    const { batch: rows, length: maxNewTokens, vocabulary } = point;
    const { config, parameters, inner } = modelOf(point);
    // No two are alike: equal ones would be computed once.
    const prompts = Array.from({ length: rows }, (_, row) => {
      return [row % vocabulary, Math.floor(row / vocabulary)];
    });
    const context = { positions: maxNewTokens / 2, training: false };
    const perToken = flopsPerToken(point, inner, context);
    let seed = 0;
    const step = () =>
      sample(parameters, config, prompts, { maxNewTokens, rowsPerBatch: rows, seed: seed++ });
    const dispose = () => disposeParameters(parameters);
    return { point, gflop: (perToken * rows) / 1e9, step, steps: maxNewTokens, dispose };
  },
};
