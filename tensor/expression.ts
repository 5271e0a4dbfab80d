/** One scalar formula as a tree: both fast devices emit their elementwise kernels from it. */

import type { DType } from "./dtype.ts";

/** What a formula computes with; an f16 operand is f32 to it. */
export type ScalarType = Exclude<DType, "f16">;
export const scalarType = (dtype: DType): ScalarType => (dtype === "f16" ? "f32" : dtype);

export type UnaryName =
  | "neg"
  | "abs"
  | "sign"
  | "exp"
  | "log"
  | "sqrt"
  | "sin"
  | "cos"
  | "tanh"
  | "sigmoid"
  | "floor"
  | "toF32"
  | "toI32"
  | "toBool";
export type BinaryName =
  | "add"
  | "sub"
  | "mul"
  | "div"
  | "min"
  | "max"
  | "less"
  | "lessEqual"
  | "equal"
  | "and"
  | "or";

export type Node =
  | { readonly kind: "input"; readonly index: number }
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "unary"; readonly name: UnaryName; readonly x: Expression }
  | {
      readonly kind: "binary";
      readonly name: BinaryName;
      readonly a: Expression;
      readonly b: Expression;
    }
  | {
      readonly kind: "where";
      readonly condition: Expression;
      readonly a: Expression;
      readonly b: Expression;
    };

type Other = Expression | number;

/** A typed scalar expression; methods build larger ones. A shared subtree is computed once. */
export class Expression {
  readonly node: Node;
  readonly dtype: ScalarType;

  constructor(node: Node, dtype: ScalarType) {
    this.node = node;
    this.dtype = dtype;
  }

  static input(index: number, dtype: ScalarType): Expression {
    return new Expression({ kind: "input", index }, dtype);
  }
  static constant(value: number, dtype: ScalarType = "f32"): Expression {
    return new Expression({ kind: "constant", value }, dtype);
  }

  add = (b: Other): Expression => this.#binary("add", b);
  sub = (b: Other): Expression => this.#binary("sub", b);
  mul = (b: Other): Expression => this.#binary("mul", b);
  div = (b: Other): Expression => this.#binary("div", b);
  min = (b: Other): Expression => this.#binary("min", b);
  max = (b: Other): Expression => this.#binary("max", b);
  less = (b: Other): Expression => this.#binary("less", b, "bool");
  lessEqual = (b: Other): Expression => this.#binary("lessEqual", b, "bool");
  equal = (b: Other): Expression => this.#binary("equal", b, "bool");
  and = (b: Expression): Expression => this.#binary("and", b, "bool");
  or = (b: Expression): Expression => this.#binary("or", b, "bool");
  neg = (): Expression => this.#unary("neg");
  abs = (): Expression => this.#unary("abs");
  /** -1, 0 or 1. */
  sign = (): Expression => this.#unary("sign");
  exp = (): Expression => this.#unary("exp");
  log = (): Expression => this.#unary("log");
  sqrt = (): Expression => this.#unary("sqrt");
  sin = (): Expression => this.#unary("sin");
  cos = (): Expression => this.#unary("cos");
  tanh = (): Expression => this.#unary("tanh");
  floor = (): Expression => this.#unary("floor");
  /** 1/(1+exp(-x)). */
  sigmoid = (): Expression => this.#unary("sigmoid");
  to = (dtype: ScalarType): Expression => {
    if (dtype === this.dtype) return this;
    return this.#unary(dtype === "f32" ? "toF32" : dtype === "i32" ? "toI32" : "toBool", dtype);
  };
  /** this ? a : b, element by element; `this` is bool. */
  where = (a: Other, b: Other): Expression => {
    const dtype = a instanceof Expression ? a.dtype : b instanceof Expression ? b.dtype : "f32";
    const [x, y] = [lift(a, dtype), lift(b, dtype)];
    return new Expression({ kind: "where", condition: this, a: x, b: y }, dtype);
  };

  #unary(name: UnaryName, dtype: ScalarType = this.dtype): Expression {
    return new Expression({ kind: "unary", name, x: this }, dtype);
  }
  #binary(name: BinaryName, b: Other, dtype: ScalarType = this.dtype): Expression {
    return new Expression({ kind: "binary", name, a: this, b: lift(b, this.dtype) }, dtype);
  }
}

const lift = (value: Other, dtype: ScalarType): Expression =>
  value instanceof Expression ? value : Expression.constant(value, dtype);
