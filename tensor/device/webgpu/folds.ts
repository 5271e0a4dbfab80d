/** WGSL of folds over the threads of a row: through workgroup memory alone, or by subgroups first. */

/** Threads of a workgroup of rows. */
export const ROW_THREADS = 128;
/** Elements that a thread folds in the first of two steps. */
const STEP = 8;

export type FoldName = "sum" | "max" | "min";

interface Fold {
  readonly combine: (a: string, b: string) => string;
  /** The subgroup's own fold, of its active threads. */
  readonly subgroup: string;
  /** What counts as nothing, where a value that is given twice would count twice. */
  readonly nothing?: string;
}
const FOLDS: Readonly<Record<FoldName, Fold>> = {
  sum: { combine: (a, b) => `${a} + ${b}`, subgroup: "subgroupAdd", nothing: "0.0" },
  max: { combine: (a, b) => `max(${a}, ${b})`, subgroup: "subgroupMax" },
  min: { combine: (a, b) => `min(${a}, ${b})`, subgroup: "subgroupMin" },
};
export const combine = (name: FoldName, a: string, b: string): string => FOLDS[name].combine(a, b);

/**
 * WGSL: fold_NAME(x), which folds x over a row's threads, in an order that is always the same, and
 * gives each of them the result. All threads must call it. Two barriers: a tree would have nine.
 */
function plain(name: FoldName): string {
  return `
var<workgroup> memory_${name}: array<f32, ${ROW_THREADS}>;
var<workgroup> parts_${name}: array<f32, ${ROW_THREADS / STEP}>;
fn fold_${name}(x: f32) -> f32 {
  const parts = WIDTH / ${STEP}u;
  let first = thread / WIDTH * WIDTH;
  memory_${name}[thread] = x;
  workgroupBarrier();
  if (thread - first < parts) {
    var part = memory_${name}[thread];
    for (var i = thread + parts; i < first + WIDTH; i += parts) { part = ${combine(name, "part", `memory_${name}[i]`)}; }
    parts_${name}[first / ${STEP}u + thread - first] = part;
  }
  workgroupBarrier();
  var result = parts_${name}[first / ${STEP}u];
  for (var i = 1u; i < parts; i++) { result = ${combine(name, "result", `parts_${name}[first / ${STEP}u + i]`)}; }
  return result;
}
`;
}

/** WGSL: what a thread must know of its subgroup, of which WGSL promises neither size nor place. */
const PEERS = `
var<private> rank: u32; // among the threads of its subgroup
var<private> peers: u32; // how many these are
var<private> alone: bool; // all of them have one row
fn meet() {
  rank = subgroupExclusiveAdd(1u);
  peers = subgroupAdd(1u);
  let first = thread / WIDTH * WIDTH;
  alone = subgroupMin(first) == subgroupMax(first);
}
`;

/**
 * The same by subgroups, with one barrier. A subgroup of one row puts its fold in the place of one
 * of its threads and nothing in the others'; one of several rows puts the values as they are. Then
 * each subgroup folds the row's places. Two memories take turns, so that no second barrier is
 * needed: a thread may be one fold ahead of another, never two.
 */
function bySubgroups(name: FoldName): string {
  const { subgroup, nothing } = FOLDS[name];
  const own = nothing === undefined ? "all" : `select(${nothing}, all, rank == 0u)`;
  return `
var<workgroup> memory_${name}: array<f32, ${2 * ROW_THREADS}>;
var<private> turn_${name}: u32;
fn fold_${name}(x: f32) -> f32 {
  turn_${name} = ${ROW_THREADS}u - turn_${name};
  let first = turn_${name} + thread / WIDTH * WIDTH;
  let all = ${subgroup}(x);
  memory_${name}[turn_${name} + thread] = select(x, ${own}, alone);
  workgroupBarrier();
  let start = select(0u, rank, alone);
  let step = select(1u, peers, alone);
  var part = memory_${name}[first + start];
  for (var i = start + step; i < WIDTH; i += step) { part = ${combine(name, "part", `memory_${name}[first + i]`)}; }
  return select(part, ${subgroup}(part), alone);
}
`;
}

/** WGSL of the named folds; with subgroups every thread must first meet(). */
export const foldCode = (names: readonly FoldName[], subgroups: boolean): string =>
  subgroups ? `${PEERS}${names.map(bySubgroups).join("")}` : names.map(plain).join("");
