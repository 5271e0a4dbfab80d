/** What models and methods would hold, move and compute: the real code on the counting device. */

import type { ModelConfig } from "../../model/config.ts";
import { disposeParameters, parameterShapes } from "../../model/parameters.ts";
import type { JsonObject } from "../../rl/fields.ts";
import { type Device, type Tensor, useDevice, zeros } from "../../tensor/mod.ts";
import { CountingDevice } from "./counting_device.ts";
import { keptPerToken, runStages, type Stage, sampleOnce, scoreOnce, workload } from "./step.ts";
import { type Kind, Tally } from "./tally.ts";

export type Storage = "f32" | "f16";

/** Weights of a shape, all zero. */
export const zeroParameters = (config: ModelConfig): Map<string, Tensor> =>
  new Map([...parameterShapes(config)].map(([name, shape]) => [name, zeros(shape)]));

/** Runs `body` with `device` as the current one. */
export async function on<D extends Device, T>(
  device: D,
  body: (device: D) => Promise<T>,
): Promise<T> {
  const before = useDevice(device);
  try {
    return await body(device);
  } finally {
    useDevice(before);
  }
}

/** Bytes of a run: what outlives a step, and the most at once in each stage. */
export interface Bytes {
  readonly held: number;
  readonly sample: number;
  readonly learn: number;
  readonly end: number;
}

export const peakOf = ({ sample, learn, end }: Bytes): number => Math.max(sample, learn, end);

export interface Demand extends Bytes {
  /** The largest buffer. */
  readonly largest: number;
  /** Answers of the step, and the launches of its two halves. */
  readonly answers: number;
  readonly sampled: readonly Kind[];
  readonly learned: readonly Kind[];
}

/** A device whose mark of the most bytes can be set back. */
export interface Marked {
  readonly liveBytes: number;
  peakBytes: number;
}

/** Bytes of the stages that `body` tells of. */
export async function bytesOfStages(
  mark: Marked,
  body: (stage: (name: Stage) => void) => Promise<void>,
): Promise<Bytes> {
  const peaks = { hold: 0, sample: 0, learn: 0, end: 0 };
  let held = 0;
  let now: Stage = "hold";
  const close = () => {
    peaks[now] = Math.max(peaks[now], mark.peakBytes);
    mark.peakBytes = mark.liveBytes;
  };
  mark.peakBytes = mark.liveBytes;
  await body((name) => {
    close();
    if (name === "hold") held = mark.liveBytes;
    now = name;
  });
  close();
  const { sample, learn, end } = peaks;
  return { held, sample, learn, end };
}

/** A step of a variant (see step.ts) and the end of its run, on paper. */
export function countRun(
  model: ModelConfig,
  settings: JsonObject,
  storage: Storage = "f32",
  most = Infinity,
): Promise<Demand> {
  return on(new CountingDevice(storage), async (device) => {
    const parameters = zeroParameters(model);
    const own = workload(model, settings, most);
    const tallies = {
      hold: new Tally(),
      sample: new Tally(),
      learn: new Tally(),
      end: new Tally(),
    };
    const bytes = await bytesOfStages(device, (stage) =>
      runStages(model, parameters, own, (name) => {
        stage(name);
        device.onLaunch = (launch) => tallies[name].add(launch);
      }),
    );
    return {
      ...{ ...bytes, largest: device.largestBytes, answers: own.answers },
      ...{ sampled: tallies.sample.kinds, learned: tallies.learn.kinds },
    };
  });
}

/** Bytes of a call on a model that is only read: answers sampled, or given ones scored. */
export interface Use {
  readonly peak: number;
  readonly rows: number;
}

const useOf = (model: ModelConfig, call: typeof sampleOnce, storage: Storage): Promise<Use> =>
  on(new CountingDevice(storage), async (device) => {
    const rows = await call(model, zeroParameters(model));
    return { peak: device.peakBytes, rows };
  });

export const samplingOf = (model: ModelConfig, storage: Storage = "f32"): Promise<Use> =>
  useOf(model, sampleOnce, storage);
export const scoringOf = (model: ModelConfig, storage: Storage = "f32"): Promise<Use> =>
  useOf(model, scoreOnce, storage);

/** Bytes that backward finds kept of a token, in all layers. */
export const keptOf = (model: ModelConfig, storage: Storage = "f32"): Promise<number> =>
  on(new CountingDevice(storage), async (device) => {
    const parameters = zeroParameters(model);
    const kept = keptPerToken(device, model, parameters);
    disposeParameters(parameters);
    return kept;
  });
