/** What a run found, and what follows from it: ratios by group of tasks, expectations met or not. */

import type { Part, Task } from "./tasks.ts";

/** One task: milliseconds of each participant, or why it has none. */
export interface Row {
  readonly part: Part;
  readonly group: string;
  readonly label: string;
  readonly width?: number;
  readonly flops?: number;
  readonly tokens?: number;
  readonly ms: Readonly<Record<string, number>>;
  readonly cannot: Readonly<Record<string, string>>;
}

/** Cores that a participant kept busy: while it was timed, and while another was. */
export interface Busy {
  readonly timed: number;
  readonly idle: number;
}

/** A process. Two with one `id` are one library in two runtimes: the faster counts, task by task. */
export interface Who {
  readonly id: string;
  readonly name: string;
  readonly version: string;
  readonly threads: number;
  readonly busy?: Busy;
}

/** When a part was measured: parts may come from runs of their own. */
export interface Measured {
  readonly date: string;
  readonly commit: string;
  /** The load average at the start. */
  readonly load: number;
  /** Cores that programs which don't take part kept busy. */
  readonly strangers?: number;
}

export interface Results extends Measured {
  readonly cpu: string;
  readonly cores: number;
  readonly participants: readonly Who[];
  readonly absent: Readonly<Record<string, string>>;
  readonly parts: Readonly<Partial<Record<Part, Measured>>>;
  readonly rows: readonly Row[];
}

/** Participants as columns: one of each id. */
export const columnsOf = (participants: readonly Who[]): Who[] =>
  participants.filter(({ id }, i) => participants.findIndex((other) => other.id === id) === i);

export const GROUPS = [
  "square products",
  "products where tiles don't fit",
  "other products",
  "ops forward",
  "ops forward and backward",
  "training step",
  "decoding",
] as const;
export type Group = (typeof GROUPS)[number];

/** Rows of one, or sizes that no tile divides: where libraries fall off. */
const isOdd = (sizes: readonly number[]): boolean => sizes.some((n) => n === 1 || n % 4 !== 0);

export function groupOf(task: Task): Group {
  if (task.kind === "step") return "training step";
  if (task.kind === "decode") return "decoding";
  if (task.kind === "op") return task.backward ? "ops forward and backward" : "ops forward";
  const { m, k, n } = task;
  if (isOdd([m, k, n])) return "products where tiles don't fit";
  return m === k && k === n ? "square products" : "other products";
}

export const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, x) => sum + Math.log(x), 0) / values.length);

/** Time of `rival` over the time of `mine`, for every row in which both were timed. */
export function ratios(rows: readonly Row[], rival: string, mine = "ours"): number[] {
  return rows.flatMap(({ ms }) => {
    const [theirs, own] = [ms[rival], ms[mine]];
    return theirs === undefined || own === undefined ? [] : [theirs / own];
  });
}

export interface Expectation {
  readonly text: string;
  readonly least: number;
  /** Undefined where nothing was measured. */
  readonly found: number | undefined;
}

const least = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : Math.min(...values);
const most = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : Math.max(...values);
const mean = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : geometricMean(values);

/** What this project expects of itself, against what a run found. */
export function expectations(rows: readonly Row[]): Expectation[] {
  const of = (group: Group) => rows.filter((row) => row.group === group);
  const steps = of("training step");
  const narrow = steps.filter(({ width }) => width! <= 128);
  const wide = steps.filter(({ width }) => width! > 128);
  const products = rows.filter(({ part }) => part === "gemm");
  const large = products.filter(({ flops }) => flops! >= 20e6);
  const both = [
    ["jax", "jax-js"],
    ["tfjs", "tfjs-wasm"],
  ] as const;
  const singles = rows.filter(({ part }) => part === "gemm" || part === "ops");
  return [
    ...both.flatMap(([id, name]): Expectation[] => [
      {
        ...{ text: `${name}, square products (geometric mean)`, least: 1.7 },
        found: mean(ratios(of("square products"), id)),
      },
      {
        ...{ text: `${name}, the product or op where it falls off most`, least: 10 },
        found: most(ratios(singles, id)),
      },
      {
        ...{ text: `${name}, training step (worst size)`, least: 5 },
        found: least(ratios(steps, id)),
      },
    ]),
    {
      ...{ text: "PyTorch, training step up to width 128 (worst size)", least: 1 },
      found: least(ratios(narrow, "pytorch")),
    },
    {
      ...{ text: "PyTorch, training step above (worst size)", least: 0.5 },
      found: least(ratios(wide, "pytorch")),
    },
    {
      ...{ text: "PyTorch, training step, ours --wide (worst size)", least: 0.9 },
      found: least(ratios(steps, "pytorch", "wide")),
    },
    {
      ...{ text: "OpenBLAS, products over 20 MFLOP, ours --wide (geometric mean)", least: 1 },
      found: mean(ratios(large, "openblas", "wide")),
    },
    {
      ...{ text: "ours --wide over ours, products over 20 MFLOP (geometric mean)", least: 1.85 },
      found: mean(ratios(large, "ours", "wide")),
    },
  ];
}

function busiest(a: Busy | undefined, b: Busy | undefined): Busy | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return { timed: Math.max(a.timed, b.timed), idle: Math.max(a.idle, b.idle) };
}

/** Rows of an earlier run, with those of the parts that this one measured replaced. */
export function merged(earlier: Results | undefined, now: Results): Results {
  if (earlier === undefined) return now;
  const again = new Set(now.rows.map(({ part }) => part));
  const kept = earlier.rows.filter(({ part }) => !again.has(part));
  const known = new Set(now.participants.map(({ id }) => id));
  const others = earlier.participants.filter(({ id }) => !known.has(id));
  const participants = now.participants.map((one) => {
    const same = ({ name, version }: Who) => name === one.name && version === one.version;
    const busy = busiest(one.busy, earlier.participants.find(same)?.busy);
    return busy === undefined ? one : { ...one, busy };
  });
  return {
    ...now,
    parts: { ...earlier.parts, ...now.parts },
    participants: [...participants, ...others],
    rows: [...now.rows, ...kept].sort((a, b) => PARTS.indexOf(a.part) - PARTS.indexOf(b.part)),
  };
}

export const PARTS: readonly Part[] = ["gemm", "ops", "step", "decode"];
