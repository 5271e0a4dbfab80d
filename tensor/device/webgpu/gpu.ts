/** Finding a GPU: a runtime's or browser's own `navigator.gpu`, else Dawn through npm `webgpu`. */

import { awaited, dawn } from "./dawn.ts";

export interface GpuOptions {
  /** Part of the adapter's name or of its driver's description; default: the system's choice. */
  readonly adapter?: string;
  /** "own": only navigator.gpu; "dawn": only npm webgpu; default: whichever is there, in this order. */
  readonly provider?: "own" | "dawn";
  /** More of what Dawn is told, such as "backend=vulkan". */
  readonly flags?: readonly string[];
  /** Limits that every adapter has, though this one may have more; and no optional features. */
  readonly modest?: boolean;
}

/** An adapter's device, and what is known of both. */
export interface Gpu {
  readonly device: GPUDevice;
  readonly provider: "own" | "dawn";
  /** "google swiftshader (SwiftShader driver 5.0.0)" */
  readonly name: string;
  readonly features: readonly string[];
}

const own = (): GPU | undefined => (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;

/** Dawn, or why it can't be had. */
function dawnOr(flags: readonly string[]): GPU | string {
  try {
    return dawn(flags);
  } catch (error) {
    return `the package can't be loaded (${firstLine(error)}): npm install webgpu`;
  }
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
export async function findGpu(options: GpuOptions = {}): Promise<Gpu> {
  const { adapter: wanted, provider, flags = [], modest = false } = options;
  const told = wanted === undefined ? flags : [...flags, `adapter=${wanted}`];
  const tried: string[] = [];
  for (const name of provider === undefined ? (["own", "dawn"] as const) : [provider]) {
    const gpu = name === "own" ? own() : dawnOr(told);
    const what = name === "own" ? "navigator.gpu" : "Dawn (npm webgpu)";
    if (gpu === undefined) tried.push(`${what}: this runtime has none`);
    else if (typeof gpu === "string") tried.push(`${what}: ${gpu}`);
    else {
      try {
        const adapter = await awaited(gpu.requestAdapter({ powerPreference: "high-performance" }));
        if (adapter === null) tried.push(`${what}: no adapter`);
        else {
          const { info } = adapter;
          const title = [info.vendor, info.device || info.architecture].filter(Boolean).join(" ");
          const full = `${title || "unnamed"}${info.description ? ` (${info.description})` : ""}`;
          if (wanted === undefined || full.toLowerCase().includes(wanted.toLowerCase())) {
            const features = FEATURES.filter((name) => !modest && adapter.features.has(name));
            const requiredLimits = Object.fromEntries(
              (modest ? [] : LIMITS).map((limit) => [limit, adapter.limits[limit]]),
            );
            const device = await awaited(
              adapter.requestDevice({ requiredFeatures: features, requiredLimits }),
            );
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
