/** What the runtime offers beyond the language: Node's modules, which a browser hasn't. */

interface Host {
  readonly process?: {
    readonly getBuiltinModule?: (name: string) => unknown;
    readonly env?: Readonly<Record<string, string | undefined>>;
    readonly versions?: Readonly<Record<string, string | undefined>>;
    readonly arch?: string;
  };
}
const { process: host } = globalThis as Host;

/** A module of Node's by name ("os"), on Node, Bun and Deno; undefined in a browser. */
export const builtin = <T>(name: string): T | undefined =>
  host?.getBuiltinModule?.(`node:${name}`) as T | undefined;

/** The process's environment variables; none in a browser. */
export const environment: Readonly<Record<string, string | undefined>> = host?.env ?? {};

/** The versions of the engine and its host, and the processor; a browser tells none. */
export const versions: Readonly<Record<string, string | undefined>> = host?.versions ?? {};
export const architecture: string = host?.arch ?? "unknown";
