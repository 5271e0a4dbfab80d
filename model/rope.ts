/** Rotary frequencies with the scaling rules of config.json, and their tables of cos and sin. */

import { z } from "zod";
import { type Device, keep, type Tensor, tensor } from "../tensor/mod.ts";
import type { ModelConfig } from "./config.ts";

const positive = z.number().positive();

/** By `rope_type`; older files call it `type`. */
const rules = {
  default: z.object({}),
  /** Every position divided by `factor` (https://arxiv.org/abs/2306.15595). */
  linear: z.object({ factor: positive }),
  /** Llama 3.1's: see `scaled`. */
  llama3: z.object({
    factor: positive,
    low_freq_factor: positive,
    high_freq_factor: positive,
    original_max_position_embeddings: positive,
  }),
} as const;

export type RopeRule = { type: string } & Partial<z.output<typeof rules.llama3>>;

/** The rule in force: `rope_scaling`, or `rope_parameters`, where newer files have it. */
export function ropeRule(config: ModelConfig): RopeRule {
  const written = (config.rope_scaling ?? config.rope_parameters ?? {}) as Record<string, unknown>;
  return { ...written, type: String(written.rope_type ?? written.type ?? "default") };
}

/** `rope_theta`, which newer files keep in `rope_parameters`. */
export const ropeTheta = (config: Record<string, unknown>): number =>
  z
    .object({ rope_theta: positive.optional() })
    .catch({})
    .parse(config.rope_parameters ?? {}).rope_theta ?? 10_000;

/** Rules that are unknown, or lack a number; a rotation of a part of each head. */
export function ropeProblems(config: ModelConfig): string[] {
  const found: string[] = [];
  const name = config.rope_scaling ? "rope_scaling" : "rope_parameters";
  const { type, ...numbers } = ropeRule(config);
  const written = JSON.stringify(config[name]);
  if (!Object.hasOwn(rules, type)) {
    const known = Object.keys(rules).join(", ");
    found.push(`${name} is ${written}: rope type "${type}" is not supported; there are ${known}`);
  } else {
    const { error } = rules[type as keyof typeof rules].safeParse(numbers);
    for (const { path, message } of error?.issues ?? []) {
      found.push(`${name} is ${written}: ${path.join(".")}: ${message}`);
    }
  }
  const { low_freq_factor: low = 0, high_freq_factor: high = 1 } = numbers;
  if (type === "llama3" && low >= high) {
    found.push(`${name} is ${written}: low_freq_factor must be below high_freq_factor`);
  }
  const inner = (config.rope_parameters as Record<string, unknown> | null | undefined) ?? {};
  const part = config.partial_rotary_factor ?? inner.partial_rotary_factor ?? 1;
  if (part !== 1) found.push(`partial_rotary_factor is ${part}: only whole heads are turned`);
  return found;
}

/** theta^(-2i/d) for i < d/2, in radians a position, by the rule of the configuration. */
export function ropeFrequencies(config: ModelConfig): Float64Array {
  const half = config.head_dim / 2;
  const rule = ropeRule(config);
  return Float64Array.from({ length: half }, (_, i) =>
    scaled(config.rope_theta ** (-i / half), rule),
  );
}

/**
 * llama3: with turns = frequency·original/2π within the original length, frequencies below
 * low_freq_factor turns are divided by `factor`, those above high_freq_factor stay, and between the
 * two the share that stays grows linearly.
 */
function scaled(frequency: number, rule: RopeRule): number {
  if (rule.type === "linear") return frequency / rule.factor!;
  if (rule.type !== "llama3") return frequency;
  const { factor, low_freq_factor: low, high_freq_factor: high } = rule as Required<RopeRule>;
  const turns = (frequency * rule.original_max_position_embeddings!) / (2 * Math.PI);
  const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)));
  return kept * frequency + ((1 - kept) * frequency) / factor;
}

export interface RopeTables {
  readonly cos: Tensor;
  readonly sin: Tensor;
}
const tables = new WeakMap<Device, Map<string, RopeTables>>();

/**
 * cos and sin of position · frequency, [max_position_embeddings d/2]. Computed once for each device
 * and kept for the life of the process: two buffers that stay alive.
 */
export function ropeTables(config: ModelConfig, device: Device): RopeTables {
  const { rope_theta: theta, head_dim, max_position_embeddings: positions } = config;
  const known = tables.get(device) ?? new Map<string, RopeTables>();
  tables.set(device, known);
  const key = `${theta} ${head_dim} ${positions} ${JSON.stringify(ropeRule(config))}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  const half = head_dim / 2;
  const frequencies = ropeFrequencies(config);
  const table = (f: (angle: number) => number): Tensor => {
    const angle = (i: number) => Math.floor(i / half) * frequencies[i % half]!;
    const values = Float64Array.from({ length: positions * half }, (_, i) => f(angle(i)));
    return keep(tensor(values, [positions, half], { device }));
  };
  const made = { cos: table(Math.cos), sin: table(Math.sin) };
  known.set(key, made);
  return made;
}
