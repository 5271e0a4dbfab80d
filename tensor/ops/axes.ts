/** Which axes a reduction takes away. */

import { normalAxis } from "../shape.ts";

/** One axis, some axes, or all (undefined); `keepDims` leaves axes of size 1 in their place. */
export type Axes =
  | undefined
  | number
  | readonly number[]
  | { readonly axes?: number | readonly number[]; readonly keepDims?: boolean };

/** The axes that are reduced, in order, and whether they stay as size 1. */
export function reducedAxes(rank: number, axes: Axes): { axes: number[]; keepDims: boolean } {
  const given = typeof axes === "object" && "axes" in axes ? axes.axes : axes;
  const keepDims = typeof axes === "object" && "keepDims" in axes && axes.keepDims === true;
  const list =
    given === undefined || (typeof given === "object" && !Array.isArray(given))
      ? Array.from({ length: rank }, (_, i) => i)
      : [given as number | number[]].flat().map((axis) => normalAxis(axis, rank, "reduce"));
  return { axes: [...new Set(list)].sort((a, b) => a - b), keepDims };
}
