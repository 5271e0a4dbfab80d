/** docs/SCALE.md: what which model takes on which device, counted by the real code; --write writes it. */
// Question: which model and method fit where, how long do they take, and when is it time for another
// engine? --measure times the same code on this machine first; the rest is counted and read.

import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { root } from "../scripts/tree.ts";
import { benchmarks } from "./scale/benchmarks.ts";
import { scaleDocument } from "./scale/document.ts";
import { check, checks, loadPeak } from "./scale/measure.ts";
import { smol } from "./scale/models.ts";
import { countAll, type Measured, record, recorded } from "./scale/record.ts";

const { values: options } = parseArgs({
  options: {
    measure: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log(
    "bench/scale_on_paper.ts [--measure] [--write]: prints docs/SCALE.md; --measure runs the checks " +
      "on this machine (minutes), --write counts anew and writes bench/scale.json and the document",
  );
  process.exit(0);
}

async function measured(): Promise<Measured> {
  const { bun, deno, node } = process.versions;
  const runtime = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`;
  const loadAverage = Math.round(10 * loadavg()[0]!) / 10;
  const found = [];
  for (const one of checks) {
    console.error(`measuring ${one.slice(0, 2).join(", ")}`);
    found.push(await check(...one));
  }
  const load = await loadPeak(smol);
  const date = new Date().toISOString().slice(0, 10);
  return { date, runtime, cpu: cpus()[0]?.model ?? "?", loadAverage, checks: found, load };
}

const before = recorded();
const last = options.measure ? await measured() : before?.measured;
if (last === undefined) throw new Error("bench/scale.json has no measurement: --measure");
const counted =
  options.write || before === undefined
    ? await countAll((name) => console.error(`counting ${name}`))
    : before.counted;
const values = { counted, benchmarks: await benchmarks(), measured: last };
if (options.write || options.measure) record(values);
const text = scaleDocument(values, (name) => readFileSync(join(root, name), "utf8"));
if (options.write) writeFileSync(join(root, "docs/SCALE.md"), text);
else console.log(text);
