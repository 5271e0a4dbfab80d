/** A program that ends while its workers start or sleep; run by tests/wasm.test.ts. */
import { createMachine } from "../../tensor/device/wasm/machine.ts";

const machine = createMachine(
  [(m) => m.function("nothing", { begin: "i32", end: "i32" }, () => {})],
  { threads: 3 },
);
if (process.argv[2] === "asleep") machine.warmUp(5000);
machine.parallel("nothing", [], 100, { grain: 1, work: 1e9 });
if (process.argv[2] === "asleep") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
console.log("end of the program");
