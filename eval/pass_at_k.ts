/** pass@k: the chance that at least one of k sampled answers is right. */

/** The paper's k = 1, 2, 4, ..., 256. */
export const passAtKLadder: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/**
 * Unbiased pass@k from c right answers among n samples: 1 - C(n-c, k) / C(n, k), as the product
 * 1 - ∏ (1 - k/i) for i = n-c+1..n, which neither overflows nor cancels.
 * Chen et al. 2021, https://arxiv.org/abs/2107.03374, eq. 1. Throws a RangeError unless
 * 0 <= c <= n and 1 <= k <= n.
 */
export function passAtK(n: number, c: number, k: number): number {
  if (![n, c, k].every(Number.isInteger) || c < 0 || c > n || k < 1) {
    throw new RangeError(`passAtK: ${c} right of ${n} samples at k = ${k}`);
  }
  if (k > n) {
    throw new RangeError(`passAtK: k = ${k} is more than the ${n} samples; draw at least ${k}`);
  }
  if (n - c < k) return 1;
  let allWrong = 1;
  for (let i = n - c + 1; i <= n; i++) allWrong *= 1 - k / i;
  return 1 - allWrong;
}

/** 1 - (1-p)^k for an answer of known probability p, accurate for small p. */
export function exactPassAtK(p: number, k: number): number {
  if (!(p >= 0 && p <= 1 + 1e-6) || !(k >= 0)) {
    throw new RangeError(`exactPassAtK: probability ${p} at k = ${k}`);
  }
  // Probabilities summed over aliases in f32 may pass 1 by rounding.
  return p >= 1 ? Math.sign(k) : -Math.expm1(k * Math.log1p(-p));
}

export interface PassAtKPoint {
  readonly k: number;
  readonly value: number;
}

/** Mean pass@k over questions with `correct[i]` right of n samples each, for every k up to n. */
export function passAtKCurve(
  correct: readonly number[],
  n: number,
  ks: readonly number[] = passAtKLadder,
): PassAtKPoint[] {
  return meanCurve(
    ks.filter((k) => k <= n),
    correct,
    (c, k) => passAtK(n, c, k),
  );
}

/** Mean exact pass@k over questions whose answer has probability `probabilities[i]`. */
export function exactPassAtKCurve(
  probabilities: readonly number[],
  ks: readonly number[] = passAtKLadder,
): PassAtKPoint[] {
  return meanCurve(ks, probabilities, exactPassAtK);
}

function meanCurve(
  ks: readonly number[],
  questions: readonly number[],
  at: (question: number, k: number) => number,
): PassAtKPoint[] {
  if (questions.length === 0) throw new RangeError("pass@k: no questions");
  return ks.map((k) => {
    const sum = questions.reduce((total, question) => total + at(question, k), 0);
    return { k, value: sum / questions.length };
  });
}
