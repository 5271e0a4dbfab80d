/** The library in a page of headless Chromium: a few training steps on wasm and on webgpu. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { stripTypeScriptTypes } from "node:module";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, normalize } from "node:path";
import { test } from "node:test";
import type { Trained } from "./page/train.ts";

const root = join(import.meta.dirname, "../..");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  ...["--headless", "--no-sandbox", "--no-first-run", "--disable-sync", "--disable-quic"],
  ...["--disable-background-networking", "--disable-component-update", "--enable-unsafe-webgpu"],
  ...["--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"],
];
const PAGE = `<!doctype html><meta charset="utf-8"><title>anamnesis</title>
<script type="importmap">{ "imports": { "zod": "/node_modules/zod/index.js" } }</script>
<script type="module">
addEventListener("unhandledrejection", ({ reason }) => fetch("/result", { method: "POST", body: String(reason) }));
await import("/tests/webgpu/page/train.ts").catch((e) =>
  fetch("/result", { method: "POST", body: "the page: " + (e.stack ?? e) }));
</script>`;

/** Files of the project, their types taken out; `done` gets what the page posts. */
function serve(done: (text: string) => void): Server {
  return createServer((request, response) => {
    const path = normalize((request.url ?? "/").split("?")[0]!);
    // A page that shares memory between threads must be alone in its process.
    response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
    response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    if (path === "/result") {
      let text = "";
      request.on("data", (part) => {
        text += part;
      });
      request.on("end", () => {
        response.end();
        done(text);
      });
    } else if (path === "/") response.setHeader("Content-Type", "text/html").end(PAGE);
    else {
      const file = join(root, path);
      if (!existsSync(file)) return response.writeHead(404).end();
      const source = readFileSync(file, "utf8");
      const code = path.endsWith(".ts") ? stripTypeScriptTypes(source) : source;
      response.setHeader("Content-Type", "text/javascript").end(code);
    }
  });
}

async function inPage(): Promise<string> {
  let told = "";
  let server: Server | undefined;
  let browser: ChildProcess | undefined;
  const profile = mkdtempSync(join(tmpdir(), "anamnesis-page-"));
  try {
    return await new Promise<string>((resolve, reject) => {
      server = serve(resolve).listen(0, "127.0.0.1", () => {
        const { port } = server!.address() as AddressInfo;
        const own = [`--user-data-dir=${profile}`, `http://127.0.0.1:${port}/`];
        browser = spawn(CHROMIUM, [...FLAGS, ...own], { stdio: ["ignore", "pipe", "pipe"] });
        browser.stderr!.on("data", (part) => {
          told += part;
        });
        browser.on("error", reject);
        browser.on("exit", (code) => reject(new Error(`Chromium ended with ${code}: ${told}`)));
      });
      setTimeout(
        () => reject(new Error(`the page posted nothing in 120 s: ${told}`)),
        120_000,
      ).unref();
    });
  } finally {
    const ended = new Promise((resolve) => browser?.once("exit", resolve) ?? resolve(undefined));
    browser?.kill();
    await ended;
    server?.closeAllConnections();
    server?.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

const missing = !existsSync(CHROMIUM);
if (missing) {
  process.on("exit", () =>
    console.log(`SKIPPED 1 tests without a GPU: no browser at ${CHROMIUM} (Debian: chromium)`),
  );
}

test("a page trains a few steps on wasm and on webgpu, and both agree", {
  skip: missing,
}, async () => {
  const text = await inPage();
  assert.match(text, /^\[/, text);
  const [wasm, webgpu] = JSON.parse(text) as [Trained, Trained];
  for (const result of [wasm, webgpu]) {
    const { losses } = result;
    assert.equal(losses?.length, 8, JSON.stringify(result));
    assert.ok(losses[7]! < losses[0]! - 0.1, `${result.device}: the loss falls: ${losses}`);
  }
  wasm.losses.forEach((loss, i) => {
    const own = webgpu.losses[i]!;
    assert.ok(Math.abs(own - loss) < 1e-3, `step ${i}: ${own} on webgpu, ${loss} on wasm`);
  });
  assert.match(webgpu.description, /through navigator\.gpu/);
  console.log(`page: ${webgpu.description}`);
});
