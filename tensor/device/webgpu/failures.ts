/** What goes wrong on a GPU comes to light later: errors wait here, with the op that they belong to. */

import { awaited } from "./dawn.ts";

export class Failures {
  readonly #device: GPUDevice;
  readonly #checks = new Set<Promise<void>>();
  #first: Error | undefined;
  /** What the device is doing now: "matmul [2,3] [3,4]". */
  doing: () => string = () => "the device itself";

  constructor(device: GPUDevice) {
    this.#device = device;
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { message } = (event as GPUUncapturedErrorEvent).error;
      const told = `${message.trim()} (near ${this.doing()})`;
      this.settle().then(() => this.keep(told)); // what is being watched may be the cause
    });
  }

  /** Keeps the first failure: what follows is its consequence. */
  keep(message: string): void {
    this.#first ??= new Error(`webgpu: ${message}`);
  }

  /** Runs `body`; what the GPU finds wrong with it will be told with `what` and the present op. */
  watch<T>(kind: GPUErrorFilter, what: string, body: () => T): T {
    const op = this.doing();
    this.#device.pushErrorScope(kind);
    try {
      return body();
    } finally {
      // Awaited at once: Dawn on Bun hangs where nothing keeps the event loop going.
      const check = awaited(this.#device.popErrorScope()).then(
        (error) => {
          if (error !== null) this.keep(`${what}, in ${op}: ${error.message.trim() || kind}`);
        },
        () => {}, // the device is lost: this is told elsewhere
      );
      this.#checks.add(check);
      check.finally(() => this.#checks.delete(check));
    }
  }

  /** Keeps the news that the device was lost, unless it was destroyed on purpose. */
  lose({ reason, message }: GPUDeviceLostInfo): void {
    if (reason === "destroyed") return;
    this.keep(
      `the device was lost (${message.trim() || reason}) in ${this.doing()}; ` +
        "what it held is gone: go on from the last checkpoint",
    );
  }

  /** Waits until all that was watched so far has been looked at. */
  async settle(): Promise<void> {
    if (this.#checks.size > 0) await awaited(Promise.all([...this.#checks]));
  }

  /** Throws the first failure, if there is one. */
  check(): void {
    if (this.#first !== undefined) throw this.#first;
  }
}
