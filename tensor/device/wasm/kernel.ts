/** The wasm entry of an op's row: functions to assemble at start-up, and how to launch them. */

import type { KernelCall } from "../../op.ts";
import type { ModuleBuilder } from "./assembler.ts";
import type { Machine } from "./machine.ts";

export interface WasmKernel {
  /** Adds this op's functions to the one module that every thread instantiates. */
  readonly emit?: (m: ModuleBuilder) => void;
  /** True where the kernel reads strided inputs itself; otherwise they arrive packed. */
  readonly strided?: boolean;
  /** Computes the outputs from the inputs. Addresses are bytes: see `address` in launch.ts. */
  readonly run: (machine: Machine, call: KernelCall) => void;
}
