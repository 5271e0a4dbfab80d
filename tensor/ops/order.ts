/** The order of numbers that argmax and top-k go by. */

/** Whether a is larger than b, where NaN is the largest number of all. */
export const larger = (a: number, b: number): boolean =>
  a > b || (Number.isNaN(a) && !Number.isNaN(b));
