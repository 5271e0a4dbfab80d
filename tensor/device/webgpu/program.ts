/** From a dispatch to a pipeline: declarations in front of its WGSL, compiled once per name. */

import type { Failures } from "./failures.ts";
import { HALVES, halfReader } from "./halves.ts";
import { type Dispatch, WGSL_TYPE } from "./kernel.ts";

/** A compiled program and the layout of its bindings. */
export interface Program {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** Fields of the uniforms, in their order. */
  readonly fields: readonly (readonly [name: string, type: "u32" | "f32"])[];
}

const fieldsOf = ({ reads, writes, uniforms = {}, floats = {} }: Dispatch): Program["fields"] => [
  ...[...Object.keys(reads), ...Object.keys(writes)].map((name) => [`${name}_at`, "u32"] as const),
  ...Object.keys(uniforms).map((name) => [name, "u32"] as const),
  ...Object.keys(floats).map((name) => [name, "f32"] as const),
];

/** The number of a workgroup that lies in a grid of rows, for there may be 65,535 of them a row. */
const UNIT = `
fn unit_of(w: vec3u, n: vec3u) -> u32 { return w.x + w.y * n.x; }
`;

/** The whole text of a program: uniforms at binding 0, then arrays, then its own code. */
export function sourceOf(dispatch: Dispatch): string {
  const { reads, writes, code, vec4 = [], header = "" } = dispatch;
  const fields = fieldsOf(dispatch).map(([name, type]) => `  ${name}: ${type},`);
  const arrays = [
    ...Object.entries(reads).map(([name, view]) => ["read", name, view] as const),
    ...Object.entries(writes).map(([name, view]) => ["read_write", name, view] as const),
  ].map(([access, name, { dtype }], i) => {
    const four = dtype === "f16" ? "vec2u" : "vec4f";
    const type = vec4.includes(name) ? four : WGSL_TYPE[dtype];
    return `@group(0) @binding(${i + 1}) var<storage, ${access}> ${name}: array<${type}>;`;
  });
  const halves = Object.entries({ ...reads, ...writes }).filter(([, view]) => view.dtype === "f16");
  const readers = halves.map(([name]) => halfReader(name, vec4.includes(name)));
  const casts = halves.length === 0 ? "" : `${HALVES}${readers.join("\n")}\n`;
  const uniforms = `struct Uniforms {\n${fields.join("\n")}\n}\n@group(0) @binding(0) var<uniform> p: Uniforms;`;
  return `// ${dispatch.name}\n${header}\n${uniforms}\n${arrays.join("\n")}\n${UNIT}${casts}${code()}`;
}

/** Programs of a device, by name and by the types of their arrays. */
export class Programs {
  readonly #device: GPUDevice;
  readonly #failures: Failures;
  readonly #known = new Map<string, Program>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();

  constructor(device: GPUDevice, failures: Failures) {
    this.#device = device;
    this.#failures = failures;
  }

  /** Arrays of the program that has most of them; every adapter binds eight. */
  mostArrays = 0;

  get size(): number {
    return this.#known.size;
  }

  find(dispatch: Dispatch): Program {
    const known = this.#known.get(dispatch.name);
    if (known !== undefined) return known;
    const device = this.#device;
    const layout = this.#layout(
      Object.keys(dispatch.reads).length,
      Object.keys(dispatch.writes).length,
    );
    const label = dispatch.name;
    const what = `the program ${label} is refused by this adapter`;
    const pipeline = this.#failures.watch("validation", what, () => {
      const module = device.createShaderModule({ label, code: sourceOf(dispatch) });
      return device.createComputePipeline({
        label,
        layout: device.createPipelineLayout({ label, bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: "main" },
      });
    });
    const arrays = Object.keys(dispatch.reads).length + Object.keys(dispatch.writes).length;
    this.mostArrays = Math.max(this.mostArrays, arrays);
    const made = { pipeline, layout, fields: fieldsOf(dispatch) };
    this.#known.set(label, made);
    return made;
  }

  #layout(reads: number, writes: number): GPUBindGroupLayout {
    const key = `${reads} ${writes}`;
    let layout = this.#layouts.get(key);
    if (layout === undefined) {
      const array = (i: number): GPUBindGroupLayoutEntry => ({
        ...{ binding: i + 1, visibility: 4 },
        buffer: { type: i < reads ? "read-only-storage" : "storage" },
      });
      layout = this.#device.createBindGroupLayout({
        label: key,
        entries: [
          { binding: 0, visibility: 4, buffer: { type: "uniform", hasDynamicOffset: true } },
          ...Array.from({ length: reads + writes }, (_, i) => array(i)),
        ],
      });
      this.#layouts.set(key, layout);
    }
    return layout;
  }
}
