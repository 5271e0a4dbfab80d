/** Trackers: TensorBoard's file decoded by other code, Weights & Biases through a stand-in. */

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { trainConfig } from "../rl/config.ts";
import { createRun, openRun } from "../rl/run.ts";
import { crc32c, fileHeader } from "../rl/tensorboard.ts";
import { eventFile, tensorboard, weightsAndBiases } from "../rl/tracking.ts";

const folder = mkdtempSync(join(tmpdir(), "anamnesis-tracking-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const config = trainConfig.parse({});

type Fields = Map<number, (number | Uint8Array)[]>;

/** A message's fields by number, of the wire types that event files have. */
function decoded(bytes: Uint8Array): Fields {
  const fields: Fields = new Map();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const [field, wire] = [key >> 3, key & 7];
    let value: number | Uint8Array;
    if (wire === 0) value = varint();
    else if (wire === 1) {
      value = view.getFloat64(at, true);
      at += 8;
    } else if (wire === 5) {
      value = view.getFloat32(at, true);
      at += 4;
    } else {
      const length = varint();
      value = bytes.subarray(at, at + length);
      at += length;
    }
    fields.set(field, [...(fields.get(field) ?? []), value]);
  }
  return fields;
}

/** The records' data; their lengths and checksums must be right. */
function records(file: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const unmasked = (x: number) => {
    const turned = (x - 0xa282ead8) >>> 0;
    return ((turned >>> 17) | (turned << 15)) >>> 0;
  };
  for (let at = 0; at < file.length; ) {
    const length = Number(view.getBigUint64(at, true));
    const data = file.subarray(at + 12, at + 12 + length);
    assert.equal(unmasked(view.getUint32(at + 8, true)), crc32c(file.subarray(at, at + 8)));
    assert.equal(unmasked(view.getUint32(at + 12 + length, true)), crc32c(data));
    found.push(data);
    at += length + 16;
  }
  return found;
}

const textOf = (bytes: unknown): string => new TextDecoder().decode(bytes as Uint8Array);

/** Step and scalars of every event. */
const eventsOf = (path: string) =>
  records(new Uint8Array(readFileSync(path)))
    .slice(1)
    .map((data) => {
      const event = decoded(data);
      const summary = decoded(event.get(5)![0] as Uint8Array);
      const scalars = (summary.get(1) ?? []).map((value) => {
        const fields = decoded(value as Uint8Array);
        return [textOf(fields.get(1)![0]), fields.get(2)![0] as number] as const;
      });
      return {
        step: event.get(2)![0],
        time: event.get(1)![0],
        scalars: Object.fromEntries(scalars),
      };
    });

describe("TensorBoard's event file", () => {
  test("CRC-32C and the first bytes are the published ones", () => {
    assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
    assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
    const start = [...fileHeader(1).subarray(0, 12)];
    assert.deepEqual(start, [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
  });

  test("holds the finite numbers of every row, and after a resume none twice", () => {
    const dir = join(folder, "run");
    const row = (step: number) => ({
      step,
      step_time: 0.5,
      loss: step / 4,
      kl: null,
      health: ["a"],
    });
    {
      using run = createRun({ config, dir });
      run.metrics.append({ step: -1, "validation/accuracy": 0.25 });
      const tracker = tensorboard(run);
      for (const step of [0, 1, 300]) {
        run.metrics.append(row(step));
        tracker.log(row(step));
      }
    }
    const events = eventsOf(join(dir, eventFile));
    assert.deepEqual(
      events.map(({ step }) => step),
      [0, 1, 2, 301],
    );
    assert.deepEqual(
      events.map(({ time }) => time),
      [0, 0.5, 1, 1.5],
    );
    assert.deepEqual(events[0]!.scalars, { "validation/accuracy": 0.25 });
    assert.deepEqual(events[2]!.scalars, { step_time: 0.5, loss: 0.25 });
    const before = readFileSync(join(dir, eventFile));
    using run = openRun(dir, config);
    tensorboard(run);
    assert.deepEqual(readFileSync(join(dir, eventFile)), before);
  });
});

describe("Weights & Biases", () => {
  const logged: unknown[] = [];
  const remote = (fail: { log?: boolean; init?: boolean }) => async () => ({
    init: async (options: object) => {
      if (fail.init) throw new Error("no network\nand more");
      logged.push(options);
      return {
        log: (data: Record<string, unknown>, step?: number) => {
          if (fail.log) throw new Error("disconnected");
          logged.push([data, step]);
        },
        finish: async () => void logged.push("finished"),
        url: () => "https://example.org/run",
      };
    },
  });

  test("gets settings, scalars and the end", async () => {
    using run = createRun({ config, dir: join(folder, "wandb") });
    const printed: string[] = [];
    const tracker = await weightsAndBiases(run, (text) => printed.push(text), remote({}));
    tracker!.log({ step: 3, reward: 0.5, health: [] });
    await tracker!.finish();
    const [options, ...rest] = logged.splice(0) as [Record<string, unknown>];
    assert.match(`${options.id}`, /^wandb-[0-9a-f]{8}$/);
    assert.deepEqual([options.project, options.config], ["anamnesis", config]);
    assert.deepEqual(rest, [[{ reward: 0.5 }, 4], "finished"]);
    assert.deepEqual(printed, ["Weights & Biases: https://example.org/run"]);
  });

  test("that fails is told once, and stops nothing", async () => {
    using run = createRun({ config, dir: join(folder, "wandb-off") });
    const printed: string[] = [];
    const print = (text: string) => printed.push(text);
    assert.equal(await weightsAndBiases(run, print, remote({ init: true })), undefined);
    const tracker = await weightsAndBiases(run, print, remote({ log: true }));
    for (const step of [0, 1, 2]) tracker!.log({ step, reward: 1 });
    await tracker!.finish();
    assert.deepEqual(printed, [
      "Weights & Biases is off: no network; metrics.jsonl has everything",
      "Weights & Biases: https://example.org/run",
      "Weights & Biases is off: disconnected; metrics.jsonl has everything",
    ]);
  });

  test("whose SDK is not installed says what to do", async () => {
    using run = createRun({ config, dir: join(folder, "wandb-none") });
    const printed: string[] = [];
    assert.equal(await weightsAndBiases(run, (text) => printed.push(text)), undefined);
    assert.match(printed[0]!, /is off: .*not installed \(npm install @wandb\/sdk\)/);
  });
});
