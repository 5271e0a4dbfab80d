/** Commands on their way to the GPU: dispatches gathered into batches, their uniforms beside them. */

import type { View } from "../device.ts";
import type { Failures } from "./failures.ts";
import type { Dispatch } from "./kernel.ts";
import type { Pooled } from "./pool.ts";
import { type Program, Programs } from "./program.ts";

/** Dispatches of a batch, and bytes of uniforms for each: offsets must be multiples of 256. */
const BATCH = 512;
const SLOT = 256;
/** Workgroups in a row of the grid. */
const ROW = 65_535;
/** Passes that a timer can hold: two time stamps each. */
const TIMED_PASSES = 2048;
/** Bind groups that are remembered. */
const REMEMBERED = 8192;

const pooledOf = (view: View): Pooled => view.buffer.memory as Pooled;

export class CommandQueue {
  readonly #device: GPUDevice;
  readonly #failures: Failures;
  readonly #uniformBuffer: GPUBuffer;
  readonly #words = new Uint32Array((BATCH * SLOT) / 4);
  readonly #floats = new Float32Array(this.#words.buffer);
  readonly #groups = new Map<string, GPUBindGroup>();
  readonly programs: Programs;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #slots = 0;
  #timer: { readonly set: GPUQuerySet; passes: number } | undefined;
  /** Number of the batch that is being gathered. */
  batch = 0;
  /** All dispatches so far. */
  dispatched = 0;
  #last = "no program";

  constructor(device: GPUDevice, failures: Failures) {
    this.#device = device;
    this.#failures = failures;
    this.programs = new Programs(device, failures);
    this.#uniformBuffer = device.createBuffer({ size: BATCH * SLOT, usage: 0x40 | 0x8 });
  }

  dispatch(dispatch: Dispatch): void {
    const { groups, reads, writes } = dispatch;
    if (groups === 0) return;
    const program = this.programs.find(dispatch);
    const views = [...Object.values(reads), ...Object.values(writes)];
    if (this.#slots === BATCH) this.submit();
    const offset = this.#writeUniforms(program, dispatch, views);
    const buffers = views.map(pooledOf);
    for (const pooled of buffers) pooled.batch = this.batch;
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#pass ??= this.#encoder.beginComputePass(this.#stamps());
    this.#pass.setPipeline(program.pipeline);
    this.#pass.setBindGroup(0, this.#bindGroup(program.layout, buffers), [offset]);
    const rows = Math.ceil(groups / ROW);
    this.#pass.dispatchWorkgroups(rows === 1 ? groups : ROW, rows);
    this.dispatched++;
    this.#last = dispatch.name;
  }

  #writeUniforms(
    { fields }: Program,
    { uniforms = {}, floats = {} }: Dispatch,
    views: readonly View[],
  ): number {
    const offset = this.#slots++ * SLOT;
    if (4 * fields.length > SLOT)
      throw new RangeError(`${fields.length} uniforms, most ${SLOT / 4}`);
    let at = offset / 4;
    for (const { offset: start } of views) this.#words[at++] = start;
    for (const value of Object.values(uniforms)) this.#words[at++] = value;
    for (const value of Object.values(floats)) this.#floats[at++] = value;
    return offset;
  }

  #bindGroup(layout: GPUBindGroupLayout, buffers: readonly Pooled[]): GPUBindGroup {
    const key = `${layout.label}:${buffers.map(({ id }) => id).join()}`;
    let group = this.#groups.get(key);
    if (group === undefined) {
      if (this.#groups.size >= REMEMBERED) this.#groups.clear();
      const entries = [
        { binding: 0, resource: { buffer: this.#uniformBuffer, size: SLOT } },
        ...buffers.map(({ buffer }, i) => ({ binding: i + 1, resource: { buffer } })),
      ];
      group = this.#failures.watch("validation", "arrays that can't be bound", () =>
        this.#device.createBindGroup({ layout, entries }),
      );
      this.#groups.set(key, group);
    }
    return group;
  }

  /** Writes at once where no gathered command uses the buffer, else after these are on their way. */
  write(target: Pooled, data: ArrayBufferView<ArrayBuffer>): void {
    if (target.batch === this.batch) this.submit();
    this.#device.queue.writeBuffer(target.buffer, 0, data.buffer, data.byteOffset, data.byteLength);
  }

  /** Copies bytes into a buffer that can be mapped, behind all that was asked for before. */
  copyOut(from: Pooled, offset: number, to: GPUBuffer, bytes: number): void {
    this.#pass?.end();
    this.#pass = undefined;
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#encoder.copyBufferToBuffer(from.buffer, offset, to, 0, bytes);
    this.submit();
  }

  /** Where the next pass writes when it began and ended, while a timer runs. */
  #stamps(): GPUComputePassDescriptor | undefined {
    const timer = this.#timer;
    if (timer === undefined) return undefined;
    if (timer.passes === TIMED_PASSES)
      throw new RangeError(`more than ${TIMED_PASSES} passes timed`);
    const first = 2 * timer.passes++;
    return {
      timestampWrites: {
        ...{ querySet: timer.set, beginningOfPassWriteIndex: first },
        endOfPassWriteIndex: first + 1,
      },
    };
  }

  /** From now on passes are timed. The device must have the feature timestamp-query. */
  startTimer(): void {
    this.submit();
    const set = this.#device.createQuerySet({ type: "timestamp", count: 2 * TIMED_PASSES });
    this.#timer = { set, passes: 0 };
  }

  /** Ends the timer: nanoseconds in all its passes, and a buffer to map and to destroy. */
  stopTimer(): { readonly buffer: GPUBuffer; readonly nanoseconds: () => number } {
    this.submit();
    const { set, passes } = this.#timer!;
    this.#timer = undefined;
    const size = Math.max(16, 16 * passes);
    const resolved = this.#device.createBuffer({ size, usage: 0x200 | 0x4 });
    const buffer = this.#device.createBuffer({ size, usage: 0x1 | 0x8 });
    const encoder = this.#device.createCommandEncoder();
    if (passes > 0) encoder.resolveQuerySet(set, 0, 2 * passes, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, buffer, 0, size);
    this.#device.queue.submit([encoder.finish()]);
    const nanoseconds = () => {
      const stamps = new BigInt64Array(buffer.getMappedRange());
      let total = 0n;
      for (let pass = 0; pass < passes; pass++) total += stamps[2 * pass + 1]! - stamps[2 * pass]!;
      for (const each of [set, resolved, buffer]) each.destroy();
      return Number(total);
    };
    return { buffer, nanoseconds };
  }

  /** Sends what was gathered. */
  submit(): void {
    if (this.#encoder === undefined) return;
    this.#pass?.end();
    this.#pass = undefined;
    const { queue } = this.#device;
    queue.writeBuffer(this.#uniformBuffer, 0, this.#words.buffer, 0, this.#slots * SLOT);
    const encoder = this.#encoder;
    const what = `${this.#slots} programs up to ${this.#last} were refused`;
    this.#failures.watch("validation", what, () => queue.submit([encoder.finish()]));
    this.#encoder = undefined;
    this.#slots = 0;
    this.batch++;
  }
}
