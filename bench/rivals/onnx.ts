/** Two rivals: ONNX Runtime, native and as WebAssembly. Arguments: threads, package. */
// Forward only: a session runs a graph, and has no gradients.

import { VERSIONS } from "./install.ts";
import { load } from "./load.ts";
import { type OneNode, onnxModel } from "./onnx_model.ts";
import { Cannot, type Prepared, serve } from "./protocol.ts";
import {
  type GemmTask,
  input,
  inputShapes,
  NORM_EPS,
  type OpTask,
  samplesOf,
  sizeOf,
} from "./tasks.ts";

interface OrtTensor {
  readonly data: Float32Array;
}
interface Session {
  run(feeds: Record<string, OrtTensor>): Promise<{ y: OrtTensor }>;
  release(): Promise<void>;
}
interface Ort {
  readonly env: { readonly wasm: { numThreads?: number } };
  readonly Tensor: new (type: "float32", data: Float32Array, shape: readonly number[]) => OrtTensor;
  readonly InferenceSession: {
    create(model: Uint8Array, options: Record<string, unknown>): Promise<Session>;
  };
}

const [count = "1", name = "onnxruntime-node"] = process.argv.slice(2);
const threads = Number(count);

function gemmNode({ m, k, n, transpose }: GemmTask): OneNode {
  const inputs = [transpose === "TN" ? [k, m] : [m, k], transpose === "NT" ? [n, k] : [k, n]];
  if (transpose === "NN") return { op: "MatMul", inputs, output: [m, n] };
  const attributes = { transA: Number(transpose === "TN"), transB: Number(transpose === "NT") };
  return { op: "Gemm", attributes, inputs, output: [m, n] };
}

function opNode(task: OpTask): OneNode {
  const nodes = {
    softmax: { op: "Softmax", attributes: { axis: 1 } },
    rmsNorm: { op: "RMSNormalization", attributes: { epsilon: { float: NORM_EPS } } },
    layerNorm: { op: "LayerNormalization", attributes: { epsilon: { float: NORM_EPS } } },
    attention: { op: "Attention", attributes: { is_causal: 1 } },
  };
  return { ...nodes[task.op], inputs: inputShapes(task), output: task.shape };
}

async function prepare(ort: Ort, node: OneNode): Promise<Prepared> {
  const options = { intraOpNumThreads: threads, executionProviders: [provider] };
  const session = await ort.InferenceSession.create(onnxModel(node), options);
  const feeds = Object.fromEntries(
    node.inputs.map((shape, i) => {
      const values = input(sizeOf(shape), i + 1);
      return [`x${i}`, new ort.Tensor("float32", values, shape)];
    }),
  );
  return {
    run: () => session.run(feeds),
    check: async () => samplesOf((await session.run(feeds)).y.data),
    release: () => void session.release(),
  };
}

const provider = name === "onnxruntime-web" ? "wasm" : "cpu";

await serve(async () => {
  const ort = await load<Ort>(name);
  if (provider === "wasm") ort.env.wasm.numThreads = threads;
  return {
    ...{ version: VERSIONS[name as keyof typeof VERSIONS], threads },
    prepare: (task) => {
      if (task.kind === "gemm") return prepare(ort, gemmNode(task));
      if (task.kind !== "op") throw new Cannot("ONNX Runtime's sessions cannot train");
      if (task.backward) throw new Cannot("ONNX Runtime's sessions have no gradients");
      return prepare(ort, opNode(task));
    },
  };
});
