/** The op table: every constant of the families, and the one loop that makes them methods. */

import type { Call, Definition } from "../op.ts";
import { Tensor } from "../tensor.ts";
import * as attention from "./attention.ts";
import * as elementwise from "./elementwise.ts";
import * as gather from "./gather.ts";
import * as logProb from "./log_prob.ts";
import * as matmul from "./matmul.ts";
import * as norm from "./norm.ts";
import * as optimizer from "./optimizer.ts";
import * as reduce from "./reduce.ts";
import * as rope from "./rope.ts";
import * as sample from "./sample.ts";
import * as softmax from "./softmax.ts";
import * as views from "./views.ts";

const families = {
  ...views,
  ...elementwise,
  ...reduce,
  ...matmul,
  ...softmax,
  ...norm,
  ...logProb,
  ...gather,
  ...attention,
  ...rope,
  ...sample,
  ...optimizer,
};

type Families = typeof families;
/** The rows among what the families export (they export helpers too). */
type Rows = {
  [K in keyof Families as Families[K] extends { definition: Definition } ? K : never]: Families[K];
};

const isRow = (entry: unknown): entry is Call<never[]> =>
  typeof entry === "function" && "definition" in entry;

/** Every op of the library, by name. */
export const ops = Object.fromEntries(
  Object.entries(families).filter(([, entry]) => isRow(entry)),
) as unknown as Rows;

/** The ops whose first argument is a tensor, as methods: x.add(y) is add(x, y). */
export type Methods = {
  [K in keyof Rows]: Rows[K] extends (x: Tensor, ...rest: infer A) => infer R
    ? (...rest: A) => R
    : never;
};

for (const [name, op] of Object.entries(ops) as [string, Call<unknown[]>][]) {
  op.definition.name = name;
  const method = function (this: Tensor, ...rest: unknown[]): unknown {
    return op(this, ...rest);
  };
  Object.defineProperty(Tensor.prototype, name, { value: method, configurable: true });
}
