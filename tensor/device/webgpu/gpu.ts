/** Finding a GPU: a runtime's or browser's own `navigator.gpu`, else Dawn through npm `webgpu`. */

import { createRequire } from "node:module";

export interface GpuOptions {
  /** Part of the adapter's name or of its driver's description; default: the system's choice. */
  readonly adapter?: string;
  /** "own": only navigator.gpu; "dawn": only npm webgpu; default: whichever is there, in this order. */
  readonly provider?: "own" | "dawn";
}

/** An adapter's device, and what is known of both. */
export interface Gpu {
  readonly device: GPUDevice;
  readonly provider: "own" | "dawn";
  /** "google swiftshader (SwiftShader driver 5.0.0)" */
  readonly name: string;
  readonly features: readonly string[];
}

/** What create() of npm webgpu returned: without a lasting reference the process dies under load. */
const pinned: GPU[] = [];

interface Dawn {
  create(flags: string[]): GPU;
  readonly globals: object;
}

const own = (): GPU | undefined => (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;

/** Dawn, told by flags such as "backend=vulkan" or "adapter=NAME" what to look for. */
function dawn(adapter: string | undefined): GPU | string {
  let found: Dawn;
  try {
    found = createRequire(import.meta.url)("webgpu") as Dawn;
  } catch (error) {
    return `npm package webgpu can't be loaded (${firstLine(error)}): npm install webgpu`;
  }
  const names = Object.getOwnPropertyNames(found.globals).filter((name) => !(name in globalThis));
  for (const name of names) {
    Object.defineProperty(globalThis, name, {
      value: (found.globals as Record<string, unknown>)[name],
      ...{ configurable: true, writable: true },
    });
  }
  const gpu = found.create(adapter === undefined ? [] : [`adapter=${adapter}`]);
  pinned.push(gpu);
  return gpu;
}

const firstLine = (error: unknown): string =>
  String(error instanceof Error ? error.message : error).split("\n")[0]!;

const HELP =
  "a GPU needs a Vulkan, Metal or Direct3D 12 driver. A software one on Debian: " +
  "apt-get install chromium-common libvulkan1, then VK_ICD_FILENAMES=" +
  "/usr/lib/chromium/vk_swiftshader_icd.json";

/** Limits that kernels use more of than every adapter must have, where there is more. */
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
] as const;
const FEATURES = ["subgroups", "shader-f16", "timestamp-query"] as const;

/** The first adapter that fits, and a device on it. Throws an error that says what was looked for. */
export async function findGpu({ adapter: wanted, provider }: GpuOptions = {}): Promise<Gpu> {
  const tried: string[] = [];
  for (const name of provider === undefined ? (["own", "dawn"] as const) : [provider]) {
    const gpu = name === "own" ? own() : dawn(wanted);
    const what = name === "own" ? "navigator.gpu" : "Dawn (npm webgpu)";
    if (gpu === undefined) tried.push(`${what}: this runtime has none`);
    else if (typeof gpu === "string") tried.push(`${what}: ${gpu}`);
    else {
      try {
        const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
        if (adapter === null) tried.push(`${what}: no adapter`);
        else {
          const { info } = adapter;
          const title = [info.vendor, info.device || info.architecture].filter(Boolean).join(" ");
          const full = `${title || "unnamed"}${info.description ? ` (${info.description})` : ""}`;
          if (wanted === undefined || full.toLowerCase().includes(wanted.toLowerCase())) {
            const features = FEATURES.filter((feature) => adapter.features.has(feature));
            const requiredLimits = Object.fromEntries(
              LIMITS.map((limit) => [limit, adapter.limits[limit]]),
            );
            const device = await adapter.requestDevice({
              requiredFeatures: features,
              requiredLimits,
            });
            return { device, provider: name, name: full, features };
          }
          tried.push(`${what}: only ${full}`);
        }
      } catch (error) {
        tried.push(`${what}: ${firstLine(error)}`);
      }
    }
  }
  const which = wanted === undefined ? "a GPU" : `a GPU named "${wanted}"`;
  throw new Error(`webgpu: found no ${which.slice(2)}. Looked at ${tried.join("; ")}. ${HELP}`);
}
