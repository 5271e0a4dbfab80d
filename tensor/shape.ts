/** Shapes and strides: sizes, broadcasting, and when a reshape needs no copy. */

export type Shape = readonly number[];

/** An error in the sizes that a caller gave; its text names the op, the axis and both sizes. */
export class ShapeError extends Error {
  override readonly name = "ShapeError";
}

export const sizeOf = (shape: Shape): number => shape.reduce((product, n) => product * n, 1);

export const formatShape = (shape: Shape): string => `[${shape.join(" ")}]`;

/** [... n] as a matrix: [product of "...", n]. Right for sizes of 0 too, where -1 is ambiguous. */
export const asRows = (shape: Shape): Shape => [sizeOf(shape.slice(0, -1)), shape.at(-1) ?? 1];

export const sameShape = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((n, i) => n === b[i]);

/** Row-major strides in elements: the last axis has stride 1. */
export function rowMajor(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= shape[axis]!;
  }
  return strides;
}

/** True when the elements lie one after the other in row-major order (axes of size 1 don't count). */
export function isContiguous(shape: Shape, strides: readonly number[]): boolean {
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const n = shape[axis]!;
    if (n === 0) return true;
    if (n !== 1 && strides[axis] !== step) return false;
    step *= n;
  }
  return true;
}

/** The shape that all of `shapes` broadcast to: sizes agree from the right, or one of them is 1. */
export function broadcastShapes(shapes: readonly Shape[], where: string): Shape {
  const rank = Math.max(0, ...shapes.map((s) => s.length));
  const result = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    for (let i = 0; i < shape.length; i++) {
      const axis = rank - shape.length + i;
      const n = shape[i]!;
      if (n === 1 || n === result[axis]) continue;
      if (result[axis] !== 1) {
        const all = shapes.map(formatShape).join(" and ");
        const sizes = `axis ${axis - rank} is ${result[axis]} and ${n}`;
        throw new ShapeError(`${where}: shapes ${all} don't broadcast: ${sizes}`);
      }
      result[axis] = n;
    }
  }
  return result;
}

/** Strides that read an array of `shape` as if it had the larger shape `target` (0 = repeat). */
export function broadcastStrides(
  shape: Shape,
  strides: readonly number[],
  target: Shape,
): number[] {
  const lead = target.length - shape.length;
  return target.map((n, axis) => {
    const own = axis - lead;
    return own < 0 || (shape[own] === 1 && n !== 1) ? 0 : strides[own]!;
  });
}

/** Turns -1 into the last axis, and so on; refuses an axis that isn't there. */
export function normalAxis(axis: number, rank: number, where: string): number {
  const normal = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || normal < 0 || normal >= rank) {
    throw new ShapeError(`${where}: axis ${axis} is not an axis of an array of rank ${rank}`);
  }
  return normal;
}

/** Strides of `to` over the same elements as (`from`, `strides`), or undefined where only a copy will do. */
export function reshapeStrides(
  from: Shape,
  strides: readonly number[],
  to: Shape,
): number[] | undefined {
  if (isContiguous(from, strides)) return rowMajor(to);
  const axes = from.map((n, i) => ({ n, stride: strides[i]! })).filter(({ n }) => n !== 1);
  const result = new Array<number>(to.length).fill(0);
  let next = to.length - 1;
  for (let end = axes.length - 1; end >= 0; ) {
    // One run of old axes that lie densely behind one another is one axis of `size` elements.
    let size = axes[end]!.n;
    const unit = axes[end]!.stride;
    let start = end;
    while (start > 0 && axes[start - 1]!.stride === unit * size) size *= axes[--start]!.n;
    let rest = size;
    let step = unit;
    while (next >= 0 && rest % to[next]! === 0 && (rest > 1 || to[next] === 1)) {
      result[next] = step;
      step *= to[next]!;
      rest /= to[next--]!;
    }
    if (rest !== 1) return undefined;
    end = start - 1;
  }
  return result;
}
