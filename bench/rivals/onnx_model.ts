/** ONNX models of one node, written byte by byte: the few protobuf fields that they need. */
// Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto

const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return [...bytes, rest];
}
const tag = (field: number, type: number): number[] => varint(field * 8 + type);
const integer = (field: number, value: number): number[] => [...tag(field, 0), ...varint(value)];
const bytes = (field: number, value: readonly number[]): number[] => {
  return [...tag(field, LENGTH_DELIMITED), ...varint(value.length), ...value];
};
const text = (field: number, value: string): number[] => [
  ...bytes(field, [...new TextEncoder().encode(value)]),
];
const float = (field: number, value: number): number[] => [
  ...tag(field, FIXED32),
  ...new Uint8Array(Float32Array.of(value).buffer),
];

/** Numbers are integers, unless they are given as {float}. */
type Attribute = number | { readonly float: number };

function attribute(name: string, value: Attribute): number[] {
  const [FLOAT, INT] = [1, 2];
  const body =
    typeof value === "number"
      ? [...integer(3, value), ...integer(20, INT)]
      : [...float(2, value.float), ...integer(20, FLOAT)];
  return [...text(1, name), ...body];
}

function valueInfo(name: string, shape: readonly number[]): number[] {
  const FLOAT = 1;
  const dimensions = shape.flatMap((size) => bytes(1, integer(1, size)));
  const tensor = [...integer(1, FLOAT), ...bytes(2, dimensions)];
  return [...text(1, name), ...bytes(2, bytes(1, tensor))];
}

export interface OneNode {
  readonly op: string;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** f32 inputs, called x0, x1, …; the output is y. */
  readonly inputs: readonly (readonly number[])[];
  readonly output: readonly number[];
}

const OPSET = 23;
const IR_VERSION = 10;

export function onnxModel({ op, attributes = {}, inputs, output }: OneNode): Uint8Array {
  const names = inputs.map((_, i) => `x${i}`);
  const node = [
    ...names.flatMap((name) => text(1, name)),
    ...text(2, "y"),
    ...text(4, op),
    ...Object.entries(attributes).flatMap(([name, value]) => bytes(5, attribute(name, value))),
  ];
  const graph = [
    ...bytes(1, node),
    ...text(2, "one_node"),
    ...inputs.flatMap((shape, i) => bytes(11, valueInfo(names[i]!, shape))),
    ...bytes(12, valueInfo("y", output)),
  ];
  const opset = integer(2, OPSET);
  return Uint8Array.from([...integer(1, IR_VERSION), ...bytes(7, graph), ...bytes(8, opset)]);
}
