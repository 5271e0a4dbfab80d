/** Who takes part: the command of each participant, or the reason why it cannot be had here. */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { folder, installedVersion, type RivalPackage, root } from "./install.ts";

export interface Participant {
  readonly id: string;
  readonly name: string;
  /** The program and its arguments, or why there is none. */
  readonly command: readonly string[] | { readonly absent: string };
  readonly env?: Readonly<Record<string, string>>;
}

type Command = Participant["command"];

/** The first program of that name, in the folders of this project or on the PATH. */
function programs(name: string): string[] {
  const own = [".runtimes/node_modules/.bin", "node_modules/.bin"].map((path) => join(root, path));
  const folders = [...own, ...(process.env.PATH ?? "").split(delimiter)];
  return folders.map((path) => join(path, name)).filter((file) => existsSync(file));
}

/** What `program args` prints, or undefined where it fails. */
function output(program: string, args: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(program, args, { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}

const script = (file: string): string => join(root, "bench/rivals", file);

/** The way to run a file of ours in a runtime. */
function runtime(name: "node" | "deno" | "bun"): readonly string[] | { absent: string } {
  for (const program of programs(name)) {
    const version = output(program, ["--version"]);
    if (version === undefined) continue;
    if (name === "deno") return [program, "run", "-A"];
    if (name === "bun") return [program, "run"];
    const major = Number(/^v(\d+)/.exec(version)?.[1]);
    if (major >= 24) return [program, "--no-warnings"];
  }
  const wanted = { node: "Node 24 or later", deno: "Deno", bun: "Bun" }[name];
  return { absent: `${wanted} is not on the PATH: npm install -g ${name}` };
}

function inRuntime(
  name: "node" | "deno" | "bun",
  file: string,
  args: readonly string[] = [],
): Command {
  const found = runtime(name);
  return "absent" in found ? found : [...found, script(file), ...args];
}

const withPackage = (name: RivalPackage, command: Command): Command =>
  installedVersion(name) === undefined
    ? { absent: `${name} is not installed: npm run bench:rivals -- --install` }
    : command;

/** The first Python that has PyTorch. */
function pytorch(threads: string): Command {
  for (const program of [...programs("python3"), "/usr/bin/python3"]) {
    if (output(program, ["-c", "import torch, numpy"]) === undefined) continue;
    return [program, script("pytorch.py"), threads];
  }
  return { absent: "no python3 here can import torch: apt-get install python3-torch" };
}

/** OpenBLAS behind a small C program, which is compiled here. */
function openblas(): Command {
  mkdirSync(folder, { recursive: true });
  const [source, program] = [script("openblas.c"), join(folder, "openblas")];
  const compiler = ["cc", "gcc", "clang"].find((name) => programs(name).length > 0);
  if (compiler === undefined) return { absent: "no C compiler: apt-get install gcc libc6-dev" };
  if (output(compiler, ["-O2", "-o", program, source, "-lopenblas"]) === undefined) {
    return { absent: `${compiler} finds no OpenBLAS: apt-get install libopenblas-dev` };
  }
  return [program];
}

/** Idle threads sleep at once: they must not compute, or spin, while another is timed. */
const PASSIVE = { OMP_WAIT_POLICY: "passive", GOMP_SPINCOUNT: "0", OPENBLAS_THREAD_TIMEOUT: "4" };

/** The first one is what all others are compared with. */
export function participantsOf(threads: number): Participant[] {
  const count = String(threads);
  const native = { ...PASSIVE, OMP_NUM_THREADS: count, OPENBLAS_NUM_THREADS: count };
  const ort = (name: "onnxruntime-node" | "onnxruntime-web") =>
    withPackage(name, inRuntime("node", "onnx.ts", [count, name]));
  return [
    { id: "ours", name: "anamnesis, Node", command: inRuntime("node", "ours.ts", [count]) },
    {
      ...{ id: "wide", name: "anamnesis --wide, Node" },
      command: inRuntime("node", "ours.ts", [count, "wide"]),
    },
    { id: "bun", name: "anamnesis, Bun", command: inRuntime("bun", "ours.ts", [count]) },
    { id: "deno", name: "anamnesis, Deno", command: inRuntime("deno", "ours.ts", [count]) },
    // Neither runtime is the faster one for all tasks; in Node it has one thread.
    ...(["deno", "bun"] as const).map((name) => ({
      ...{ id: "jax", name: "jax-js" },
      command: withPackage("@jax-js/jax", inRuntime(name, "jax.ts")),
    })),
    {
      ...{ id: "tfjs", name: "tfjs-wasm" },
      command: withPackage("@tensorflow/tfjs", inRuntime("node", "tfjs.ts")),
    },
    { id: "ort-web", name: "onnxruntime-web", command: ort("onnxruntime-web") },
    { id: "ort-node", name: "onnxruntime-node", command: ort("onnxruntime-node"), env: native },
    { id: "plain", name: "plain JS", command: inRuntime("node", "plain.ts") },
    { id: "openblas", name: "OpenBLAS", command: openblas(), env: native },
    { id: "pytorch", name: "PyTorch", command: pytorch(count), env: native },
  ];
}
