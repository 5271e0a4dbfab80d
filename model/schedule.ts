/** Learning rates as pure functions of the step: warm-up, then cosine, linear or constant. */

/** The learning rate of step 0, 1, … */
export type Schedule = (step: number) => number;

export interface WarmUp {
  /** Largest rate, reached at the end of the warm-up. */
  readonly peak: number;
  /** Steps of linear rise: the rate of step s is peak·(s+1)/warmup. 0: none. */
  readonly warmup: number;
}
export interface Decay extends WarmUp {
  /** Number of steps; the last one, steps-1, has the rate `floor`. */
  readonly steps: number;
  /** Default 0. */
  readonly floor?: number;
}

/** Rises over the warm-up, then stays at the peak. */
export function warmupConstant({ peak, warmup }: WarmUp): Schedule {
  return (step) => (step < warmup ? (peak * (step + 1)) / warmup : peak);
}

/** Rises over the warm-up, then falls as half a cosine wave (https://arxiv.org/abs/1608.03983). */
export const warmupCosine = (options: Decay): Schedule =>
  decaying(options, (share) => (1 + Math.cos(Math.PI * share)) / 2);

/** Rises over the warm-up, then falls on a straight line. */
export const warmupLinear = (options: Decay): Schedule => decaying(options, (share) => 1 - share);

/** `curve` goes from 1 at the end of the warm-up to 0 at the last step. */
function decaying(options: Decay, curve: (share: number) => number): Schedule {
  const { peak, warmup, steps, floor = 0 } = options;
  if (!(warmup < steps)) {
    throw new RangeError(`schedule: a warm-up of ${warmup} never ends within ${steps} steps`);
  }
  const rise = warmupConstant(options);
  return (step) => {
    if (step < warmup) return rise(step);
    const share = Math.min(1, (step - warmup) / Math.max(1, steps - 1 - warmup));
    return floor + (peak - floor) * curve(share);
  };
}
