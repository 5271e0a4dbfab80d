/** Finding a GPU: a runtime's or browser's own `navigator.gpu`, else Dawn through npm `webgpu`. */

import { awaited, dawn } from "./dawn.ts";

export interface GpuOptions {
  /** Part of the adapter's name or of its driver's description; default: the system's choice. */
  readonly adapter?: string;
  /** "own": only navigator.gpu; "dawn": only npm webgpu; default: whichever is there, in this order. */
  readonly provider?: "own" | "dawn";
  /** More of what Dawn is told, such as "backend=vulkan". */
  readonly flags?: readonly string[];
  /**
   * What matrix products compute with. "f16": operands are rounded to 11 bits of mantissa (largest
   * 65,504, smallest 6e-8), sums stay f32; on tensor cores where Dawn offers them. Default "f32".
   */
  readonly matmulPrecision?: "f32" | "f16";
  /**
   * What models keep weights and activations in wherever products read them. "f16": two bytes each
   * (any adapter can); sums, gradients and the optimizer's weights stay f32. Default "f32".
   */
  readonly storage?: "f32" | "f16";
  /**
   * What uses subgroups, where the adapter has them and a probe finds them right: sums over "rows"
   * (the default), with true also products of up to eight rows, with false nothing. Such a product
   * adds up in another order than one of more rows: what is sampled then depends, by rounding, on
   * how many rows are in work.
   */
  readonly subgroups?: boolean | "rows";
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
  /** Threads of a subgroup, at least; undefined where the adapter offers no subgroups. */
  readonly subgroupSize: number | undefined;
  /** Subgroups of 32 that multiply f16 matrices of 16 x 16 into f32 ones. */
  readonly subgroupMatrix: boolean;
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
/** What WGSL promises of subgroups, where an adapter doesn't say more. */
const LEAST_SUBGROUP = 4;
const FEATURES = ["subgroups", "shader-f16", "timestamp-query"] as const;
/** Dawn's name of a draft; its adapter says which sizes and types it has. */
const SUBGROUP_MATRIX = "chromium-experimental-subgroup-matrix" as GPUFeatureName;
const UNSAFE = "enable-dawn-features=allow_unsafe_apis";

interface MatrixInfo extends GPUAdapterInfo {
  readonly subgroupMatrixConfigs?: readonly {
    readonly componentType: string;
    readonly resultComponentType: string;
    readonly M: number;
    readonly N: number;
    readonly K: number;
  }[];
}

/** Whether tensor cores can be used as gemm_matrix.ts does. */
function hasSubgroupMatrix({ features, info, limits }: GPUAdapter): boolean {
  if (limits.maxComputeWorkgroupStorageSize < 32_768) return false;
  if (limits.maxComputeInvocationsPerWorkgroup < 256) return false;
  const { subgroupMinSize, subgroupMaxSize, subgroupMatrixConfigs = [] } = info as MatrixInfo;
  if (!features.has(SUBGROUP_MATRIX) || !features.has("shader-f16")) return false;
  if (!features.has("subgroups") || subgroupMinSize !== 32 || subgroupMaxSize !== 32) return false;
  return [...subgroupMatrixConfigs].some(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === "f16" && resultComponentType === "f32" && M === 16 && N === 16 && K === 16,
  );
}

/** The first adapter that fits, and a device on it. Throws an error that says what was looked for. */
export async function findGpu(options: GpuOptions = {}): Promise<Gpu> {
  const { adapter: wanted, provider, flags = [], modest = false } = options;
  const half = options.matmulPrecision === "f16";
  const told = [...flags, ...(half ? [UNSAFE] : [])];
  if (wanted !== undefined) told.push(`adapter=${wanted}`);
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
            const subgroupMatrix = half && !modest && hasSubgroupMatrix(adapter);
            const features: GPUFeatureName[] = FEATURES.filter(
              (name) => !modest && adapter.features.has(name),
            );
            if (subgroupMatrix) features.push(SUBGROUP_MATRIX);
            const requiredLimits = Object.fromEntries(
              (modest ? [] : LIMITS).map((limit) => [limit, adapter.limits[limit]]),
            );
            const device = await awaited(
              adapter.requestDevice({ requiredFeatures: features, requiredLimits }),
            );
            const { subgroupMinSize = LEAST_SUBGROUP } = adapter.info as MatrixInfo;
            const subgroupSize = features.includes("subgroups") ? subgroupMinSize : undefined;
            return {
              ...{ device, provider: name, name: full, features },
              ...{ subgroupSize, subgroupMatrix },
            };
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
