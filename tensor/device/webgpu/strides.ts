/** Walking strided arrays: axes merged where they can be, and the WGSL that finds an element. */

import type { Shape } from "../../shape.ts";

/** The fewest axes that visit the same elements of all arrays, in the same order. */
export interface Walk {
  readonly sizes: readonly number[];
  /** Strides by array, then by axis. */
  readonly strides: readonly (readonly number[])[];
}

/** Drops axes of size 1 and merges neighbours; there is at least one axis. */
export function walk(shape: Shape, strides: readonly (readonly number[])[]): Walk {
  const sizes: number[] = [];
  const merged: number[][] = strides.map(() => []);
  shape.forEach((n, axis) => {
    if (n === 1) return;
    const last = sizes.length - 1;
    const fits = last >= 0 && strides.every((own, k) => merged[k]![last] === own[axis]! * n);
    if (fits) sizes[last]! *= n;
    else sizes.push(n);
    strides.forEach((own, k) => {
      if (fits) merged[k]![last] = own[axis]!;
      else merged[k]!.push(own[axis]!);
    });
  });
  if (sizes.length === 0) return { sizes: [1], strides: strides.map(() => [0]) };
  return { sizes, strides: merged };
}

/** Uniforms of a walk for arrays of these names: n1, n2, … (not n0, which nothing needs), x_s0, … */
export function walkUniforms(names: readonly string[], { sizes, strides }: Walk) {
  return Object.fromEntries([
    ...sizes.slice(1).map((n, axis) => [`n${axis + 1}`, n] as const),
    ...names.flatMap((name, k) => strides[k]!.map((s, axis) => [`${name}_s${axis}`, s] as const)),
  ]);
}

/** WGSL that sets NAME_i of each array to the place of element `i`, counted along `axes` axes. */
export function findElements(names: readonly string[], axes: number, i = "i"): string {
  const lines = [...names.map((name) => `var ${name}_i = p.${name}_at;`), `var rest = ${i};`];
  for (let axis = axes - 1; axis > 0; axis--) {
    const step = names.map((name) => `${name}_i += at${axis} * p.${name}_s${axis};`).join(" ");
    const split = `let up${axis} = rest / p.n${axis}; let at${axis} = rest - up${axis} * p.n${axis};`;
    lines.push(split, `${step} rest = up${axis};`);
  }
  lines.push(names.map((name) => `${name}_i += rest * p.${name}_s0;`).join(" "));
  return lines.map((line) => `  ${line}`).join("\n");
}
