/** A client of a mock Tinker server whose waits take no time, and what it is asked. */

import { openTinker } from "../../eval/engines/tinker.ts";
import { datumOf } from "../../eval/engines/tinker_protocol.ts";
import { tinyModel } from "../tiny_model.ts";
import { fakeClock, mockServer, type Received, type Script } from "./mock_server.ts";
import { BASE, type MockTinkerOptions, mockTinker } from "./mock_tinker.ts";

export const STOP = 3;
const model = tinyModel();
export const adam = {
  ...{ learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
  ...{ weight_decay: 0, grad_clip_norm: 1 },
};
export const data = [
  datumOf([1, 5, 9], [4, STOP], { weights: [0.5, 0.25] }),
  datumOf([7], [2, 2, STOP], { weights: [1, 1, 1] }),
];
export const SFT = { loss_fn: "cross_entropy" } as const;
export const ask = { samplesPerPrompt: 2, maxNewTokens: 6, stopTokens: [STOP], seed: 11, step: 2 };

/** A mock server, and a client of it whose waits take no time. */
export async function open(
  options: Partial<MockTinkerOptions> = {},
  around: (answer: Script) => Script = (answer) => answer,
  more: object = {},
) {
  const tinker = mockTinker(model, { stop: STOP, ...options });
  const server = await mockServer(around((request) => tinker.answer(request)));
  const printed: string[] = [];
  const print = (text: string) => void printed.push(text);
  const settings = { url: server.url, model: BASE, rank: 0, seed: 5, timeoutSeconds: 8 };
  try {
    const client = await openTinker({ ...settings, clock: fakeClock(), print, ...more });
    return {
      ...{ tinker, server, client, printed },
      async [Symbol.asyncDispose]() {
        client[Symbol.dispose]();
        await server[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

export const bodiesOf = (received: readonly Received[], name: string) =>
  received.filter(({ path }) => path === `/api/v1/${name}`).map(({ body }) => body);
