/** Dawn through npm `webgpu`, taught to let a process end and to sleep while nothing is awaited. */
// Dawn looks for finished work in a callback of setImmediate that asks for the next one, as long as
// it has a device: such a process would never end, and never rest. Its callbacks are recognised (they
// are native functions) and no longer keep the event loop alive; while somebody waits, our own do.

import { builtin } from "../../runtime.ts";

interface Dawn {
  create(flags: string[]): GPU;
  readonly globals: object;
}

/** What create() returned: without a lasting reference the process dies under load. */
const pinned: GPU[] = [];
let loaded: Dawn | undefined;
let waiting = 0;

type Immediate = (callback: (...args: unknown[]) => void, ...args: unknown[]) => unknown;

function teachToRest(): Immediate {
  const later = globalThis.setImmediate as Immediate;
  // Nameless native constructors without parameters: a promise's resolve() has one, and is none.
  const isDawns = (f: Parameters<Immediate>[0]) =>
    f.length === 0 &&
    f.name === "" &&
    Object.hasOwn(f, "prototype") &&
    /\{\s*\[native code\]\s*\}$/.test(`${f}`);
  const taught: Immediate = (callback, ...args) => {
    if (!isDawns(callback)) return later(callback, ...args);
    const look = () => {
      looks.delete(look);
      callback(...args);
    };
    const handle = later(look) as Handle;
    if (waiting === 0) handle.unref?.();
    looks.set(look, handle);
    return handle;
  };
  globalThis.setImmediate = Object.assign(taught, globalThis.setImmediate) as typeof setImmediate;
  return later;
}
let later: Immediate | undefined;

type Handle = { unref?: () => void };
/** Dawn's callbacks that are still to run. */
const looks = new Map<() => void, Handle>();

/** Bun may never run what was unref'ed, and Dawn asks no second time: somebody waits, ask anew. */
function wake(): void {
  for (const [look, handle] of looks) {
    clearImmediate(handle as never);
    looks.set(look, later!(look) as Handle);
  }
}

function turn(): void {
  if (waiting > 0) later!(turn);
}

/** Awaits what Dawn promises, with the event loop kept going. */
export async function awaited<T>(promise: Promise<T>): Promise<T> {
  if (later === undefined) return promise;
  if (waiting++ === 0) {
    wake();
    turn();
  }
  try {
    return await promise;
  } finally {
    waiting--;
  }
}

/** Dawn, told by flags which adapter to take; throws where the package can't be loaded. */
export function dawn(flags: readonly string[]): GPU {
  if (loaded === undefined) {
    const modules = builtin<typeof import("node:module")>("module");
    if (modules === undefined) throw new Error("this runtime loads no native code");
    loaded = modules.createRequire(import.meta.url)("webgpu") as Dawn;
    const { globals } = loaded;
    for (const name of Object.getOwnPropertyNames(globals)) {
      if (name in globalThis) continue;
      const value = (globals as Record<string, unknown>)[name];
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
    later = teachToRest();
  }
  const gpu = loaded.create([...flags]);
  pinned.push(gpu);
  return gpu;
}
