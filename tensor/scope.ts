/** Who frees what, and when: a scope disposes every tensor made inside that it does not return. */

/** Something counted: the last release frees it. */
export interface Counted {
  release(): void;
}

/** What a handle keeps alive; kept apart from it so that the finalizer can let go of it. */
export interface Holds<S extends Counted = Counted, G extends Counted = Counted> {
  storage: S | undefined;
  graph: G | undefined;
}

/** What a scope can own. */
export interface Handle {
  readonly holds: Holds;
  readonly disposed: boolean;
  dispose(): void;
}

export function letGo(holds: Holds): void {
  const { storage, graph } = holds;
  holds.storage = undefined;
  holds.graph = undefined;
  storage?.release();
  graph?.release();
}

// The safety net for handles that no scope owns and nobody disposes.
const finalizer = new FinalizationRegistry<Holds>(letGo);
const watch = (handle: Handle): void => finalizer.register(handle, handle.holds, handle);
export const unwatch = (handle: Handle): void => {
  finalizer.unregister(handle);
};

const stack: Handle[][] = [];

/** Gives a new handle to the innermost scope, or where there is none to the finalizer. */
export function adopt(handle: Handle): void {
  const owned = stack[stack.length - 1];
  if (owned === undefined) watch(handle);
  else owned.push(handle);
}

/**
 * Runs `body` and disposes all tensors made in it, except those it returns (in arrays, maps and
 * plain objects too) and those given to `keep`. Scopes nest: what one returns belongs to the next.
 * Throws if `body` returns a promise, because the scope would end before its work does.
 */
export function scope<T>(body: () => T): T {
  const owned: Handle[] = [];
  const survivors = new Set<Handle>();
  stack.push(owned);
  try {
    const result = body();
    if (result instanceof Promise) {
      throw new Error("scope: the body is asynchronous; do the waiting outside of the scope");
    }
    collect(result, survivors);
    return result;
  } finally {
    stack.pop();
    for (const handle of owned) {
      if (handle.disposed) continue;
      if (survivors.has(handle)) adopt(handle);
      else handle.dispose();
    }
  }
}

/** Takes a tensor out of all open scopes: it lives until dispose() or until it is unreachable. */
export function keep<T extends Handle>(handle: T): T {
  for (const owned of stack) {
    const at = owned.lastIndexOf(handle);
    if (at >= 0) {
      owned.splice(at, 1);
      watch(handle);
    }
  }
  return handle;
}

function collect(value: unknown, into: Set<Handle>): void {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return;
  if ("dispose" in value && "holds" in value) into.add(value as Handle);
  else if (value instanceof Map) for (const item of value.values()) collect(item, into);
  else if (Array.isArray(value)) for (const item of value) collect(item, into);
  else if (Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) collect(item, into);
  }
}
