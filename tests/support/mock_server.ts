/** A server in this process that answers by a script: rightly, wrongly, late, in part or not at all. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Clock } from "../../eval/engines/retry.ts";

export interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  // biome-ignore lint/suspicious/noExplicitAny: tests read what they expect in it
  readonly body: any;
}

/** What a server does with one request. */
export type Answer =
  | { readonly status?: number; readonly headers?: Record<string, string>; readonly json: unknown }
  | { readonly status?: number; readonly headers?: Record<string, string>; readonly text: string }
  /** Never answers. */
  | { readonly stall: "headers" | "body" }
  /** Cuts the connection: at once, or in the middle of the body. */
  | { readonly cut: "headers" | "body" };

export interface MockServer extends AsyncDisposable {
  readonly url: string;
  readonly received: Received[];
  /** Another script from now on. */
  answer(script: Script): void;
}

export type Script = (request: Received, index: number) => Answer | Promise<Answer>;

/** Listens on a free port; `answer` is asked for each request in turn. */
export async function mockServer(first: Script): Promise<MockServer> {
  let script = first;
  const received: Received[] = [];
  const server = createServer(async (request, response) => {
    const text = await bodyOf(request);
    const { method = "", url = "", headers } = request;
    const body = text === "" ? undefined : JSON.parse(text);
    received.push({ method, path: url, headers, body });
    act(await script(received.at(-1)!, received.length - 1), response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    received,
    answer: (next) => {
      script = next;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections?.();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of request) parts.push(part as Uint8Array);
  return new TextDecoder().decode(Buffer.concat(parts));
}

function act(answer: Answer, response: ServerResponse): void {
  if ("json" in answer || "text" in answer) {
    const isJson = "json" in answer;
    const type = isJson ? "application/json" : "text/html";
    response.writeHead(answer.status ?? 200, { "content-type": type, ...answer.headers });
    response.end(isJson ? JSON.stringify(answer.json) : answer.text);
    return;
  }
  const part = "cut" in answer ? answer.cut : answer.stall;
  if (part === "body") {
    response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
    response.write('{"choices": [');
  }
  if ("cut" in answer) setTimeout(() => response.socket?.destroy(), part === "body" ? 20 : 0);
}

/** Time that passes only where somebody sleeps. */
export function fakeClock(): Clock & { readonly slept: number[] } {
  const slept: number[] = [];
  let now = 0;
  return {
    slept,
    now: () => now,
    sleep: async (milliseconds) => {
      slept.push(milliseconds);
      now += milliseconds;
    },
    chance: () => 1,
  };
}
