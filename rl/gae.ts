/** PPO's arithmetic on the host, in f64: rewards of tokens, generalised advantages, their scale. */

/**
 * Rewards of an answer's tokens: -β·k1 at each, and the score at the last (Stiennon et al.,
 * https://arxiv.org/abs/2009.01325 §3.4). logProbs and reference: log π_old and log of the reference
 * at its tokens. An answer without tokens has none.
 */
export function tokenRewards(
  score: number,
  logProbs: readonly number[],
  reference: readonly number[] | undefined,
  klCoefficient: number,
): number[] {
  return logProbs.map((x, t) => {
    const penalty = reference === undefined ? 0 : klCoefficient * (x - reference[t]!);
    return (t === logProbs.length - 1 ? score : 0) - penalty;
  });
}

export interface Gae {
  readonly advantages: number[];
  /** A + V, before any whitening: what the value head learns. */
  readonly returns: number[];
}

/**
 * Â_t = Σ_k (γλ)^k δ_{t+k}, δ_t = r_t + γ·V_{t+1} - V_t, V = 0 behind the last token
 * (https://arxiv.org/abs/1506.02438 eq. 16).
 */
export function gae(
  rewards: readonly number[],
  values: readonly number[],
  { gamma, lambda }: { readonly gamma: number; readonly lambda: number },
): Gae {
  const advantages = new Array<number>(rewards.length).fill(0);
  let next = 0;
  for (let t = rewards.length - 1; t >= 0; t--) {
    const delta = rewards[t]! + gamma * (values[t + 1] ?? 0) - values[t]!;
    next = delta + gamma * lambda * next;
    advantages[t] = next;
  }
  return { advantages, returns: advantages.map((a, t) => a + values[t]!) };
}

/**
 * (x - mean)/√(variance + epsilon) over all tokens of all answers; the variance divides by n - ddof.
 * Fewer than two tokens are left as they are.
 */
export function whiten(
  rows: readonly (readonly number[])[],
  { ddof = 1, epsilon = 1e-8 }: { readonly ddof?: 0 | 1; readonly epsilon?: number } = {},
): number[][] {
  const all = rows.flat();
  if (all.length < 2) return rows.map((row) => [...row]);
  const mean = all.reduce((a, b) => a + b, 0) / all.length;
  const variance = all.reduce((total, x) => total + (x - mean) ** 2, 0) / (all.length - ddof);
  const scale = 1 / Math.sqrt(variance + epsilon);
  return rows.map((row) => row.map((x) => (x - mean) * scale));
}

/**
 * The next KL coefficient: β·(1 + clip(KL/target - 1, ±0.2)·n/horizon) after n answers (Ziegler et
 * al., https://arxiv.org/abs/1909.08593 §2.2).
 */
export function adaptedKlCoefficient(
  coefficient: number,
  kl: number,
  { target, horizon }: { readonly target: number; readonly horizon: number },
  answers: number,
): number {
  const error = Math.min(0.2, Math.max(-0.2, kl / target - 1));
  return coefficient * (1 + (error * answers) / horizon);
}
