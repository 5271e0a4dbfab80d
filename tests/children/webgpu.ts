/** Computes on a GPU and simply ends; run by tests/webgpu/device.test.ts. */
import { setDevice, tensor } from "../../tensor/mod.ts";

await setDevice("webgpu");
const x = tensor([
  [1, 2],
  [3, 4],
]);
console.log(`${await x.matmul(x).data()}`);
// Somebody else's timer keeps the process for a moment, and is not kept from ending it.
await new Promise((resolve) => setImmediate(resolve));
console.log("end of the program");
