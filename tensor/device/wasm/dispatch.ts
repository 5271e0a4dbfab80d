/** One function that calls every kernel by number, its arguments read from memory. */
import type { Callable, FunctionBuilder, Local, ModuleBuilder, ValueType } from "./assembler.ts";
import { f32, i32 } from "./assembler.ts";

/** Its name among the exports of a machine's module. */
export const DISPATCH = "run_kernel";

/** Arguments that a kernel may take, besides its range. */
export const MAXIMUM_ARGUMENTS = 64;

/** How a kernel over a range is called: see `emitDispatch`. */
export interface Dispatched {
  readonly name: string;
  readonly index: number;
  /** Types of its arguments; the range follows them. */
  readonly types: readonly ValueType[];
}

/**
 * Emits run_kernel(index, args, begin, end), which calls kernel `index` of the module on the 32-bit
 * words at `args` and the range. A call from JavaScript with twenty arguments costs 100 ns, and one
 * through a call site that sees many functions as much again; this one costs 15. Gives the way to
 * look up by name what it can call: kernels whose last parameters are `begin` and `end`.
 */
export function emitDispatch(m: ModuleBuilder): (name: string) => Dispatched {
  const callees = m.functions.filter(({ parameters, builder, result }) => {
    const [begin, end] = builder.names.slice(0, parameters.length).slice(-2);
    return begin === "$begin" && end === "$end" && result === "void";
  });
  const kernels = callees.map(({ name, index, parameters }) => {
    return { name, index, types: parameters.slice(0, -2) };
  });
  for (const { name, types } of kernels) {
    if (types.length <= MAXIMUM_ARGUMENTS) continue;
    throw new RangeError(`${name}: ${types.length} arguments, at most ${MAXIMUM_ARGUMENTS}`);
  }
  const parameters = { kernel: "i32", args: "i32", begin: "i32", end: "i32" } as const;
  m.function(DISPATCH, parameters, (f, p) => {
    search(f, p.kernel, callees, (callee) => {
      const types = callee.parameters.slice(0, -2);
      const args = types.map((type, i) => (type === "f32" ? f32 : i32).load(p.args, 4 * i));
      f.call(callee as Callable<"void">, ...args, p.begin, p.end);
      f.return();
    });
    f.trap();
  });
  const byName = new Map(kernels.map((kernel) => [kernel.name, kernel]));
  return (name) => {
    const kernel = byName.get(name);
    if (kernel !== undefined) return kernel;
    if (m.functions.some((other) => other.name === name)) {
      throw new Error(`kernel "${name}" takes no range: its last parameters are not begin, end`);
    }
    throw new Error(`no kernel "${name}" in this machine's module`);
  };
}

/** A binary search for the kernel, as nested ifs. */
function search(
  f: FunctionBuilder,
  kernel: Local<"i32">,
  callees: readonly Callable[],
  found: (callee: Callable) => void,
): void {
  const [first, second] = [callees[0], callees[callees.length >> 1]];
  if (first === undefined || second === undefined) return;
  if (callees.length === 1) {
    f.if(i32.eq(kernel, first.index), () => found(first));
    return;
  }
  const middle = callees.length >> 1;
  f.if(
    i32.ltU(kernel, second.index),
    () => search(f, kernel, callees.slice(0, middle), found),
    () => search(f, kernel, callees.slice(middle), found),
  );
}
