/** Ours against the rivals: every participant in its own process, the same tasks, timed in turn. */
// Question: how fast is this library beside what else a user could take? Writes bench/RESULTS.md,
// a line of bench/history.jsonl and bench/rivals.svg (not with --quick or --only).

import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { line, median } from "../support.ts";
import { disagreement } from "./agreement.ts";
import { chart } from "./chart.ts";
import { Connection } from "./connection.ts";
import { folder, install, root } from "./install.ts";
import { participantsOf } from "./participants.ts";
import type { Reply } from "./protocol.ts";
import { historyLine, markdown } from "./report.ts";
import { expectations, groupOf, merged, PARTS, type Results, type Row } from "./results.ts";
import { tasksOf } from "./suite.ts";
import { flopsOf, labelOf, type Part, type Task, tokensOf } from "./tasks.ts";

const { values: options } = parseArgs({
  options: {
    part: { type: "string", multiple: true },
    only: { type: "string", multiple: true },
    quick: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    install: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (options.install && !options.help) install();
const threads = Math.min(2, availableParallelism());
const everyone = participantsOf(threads);
if (options.help) {
  const ids = everyone.map(({ id }) => id).join(" ");
  console.log(
    "bench/rivals/main.ts [--install] [--part gemm|ops|step|decode]… [--only ID]… [--quick | --full] [--json]\n" +
      `ids: ${ids}`,
  );
  process.exit(0);
}

function chosen<T extends string>(
  what: string,
  wanted: readonly string[],
  known: readonly T[],
): T[] {
  const wrong = wanted.find((name) => !(known as readonly string[]).includes(name));
  if (wrong !== undefined) {
    throw new Error(`--${what} ${wrong}: expected one of ${known.join(", ")}`);
  }
  return wanted as T[];
}
const parts: readonly Part[] = chosen("part", options.part ?? PARTS, PARTS);
const ids = everyone.map(({ id }) => id);
const only = new Set(chosen("only", options.only ?? ids, ids)).add("ours");

/** Rounds over all participants, and milliseconds of a participant's turn. */
const [ROUNDS, TURN_MS] = options.quick ? [1, 30] : [4, 150];

/** Asks, and takes a participant that dies in the middle out of the race. */
async function ask(connection: Connection, request: Parameters<Connection["ask"]>[0]) {
  try {
    return await connection.ask(request);
  } catch (error) {
    racing.delete(connection);
    absent[connection.participant.name] = (error as Error).message;
    return { cannot: (error as Error).message } satisfies Reply;
  }
}

/** Prepares a task everywhere, compares the results, then times the participants in turn. */
async function measure(part: Part, task: Task): Promise<Row> {
  const cannot: Record<string, string> = {};
  const samples = new Map<Connection, number[]>();
  let expected: readonly number[] | undefined;
  for (const connection of [...racing]) {
    const { id } = connection.participant;
    const { check, cannot: reason } = await ask(connection, { prepare: task });
    const different = check && expected ? disagreement(task, expected, check) : undefined;
    if (reason !== undefined) cannot[id] = reason;
    else if (different !== undefined) cannot[id] = `disagrees with ours: ${different}`;
    else samples.set(connection, []);
    expected ??= check;
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const [connection, own] of samples) {
      const reply = await ask(connection, { time: TURN_MS });
      if (reply.samples) own.push(median([...reply.samples]));
      else cannot[connection.participant.id] = reply.cannot ?? "gave no times";
    }
  }
  for (const connection of [...racing]) await ask(connection, { release: true });
  const ms = [...samples].flatMap(([{ participant }, own]) =>
    own.length === 0 ? [] : [[participant.id, Math.min(...own)] as const],
  );
  const [flops, tokens] = [flopsOf(task), tokensOf(task)];
  return {
    ...{ part, group: groupOf(task), label: labelOf(task), ms: Object.fromEntries(ms), cannot },
    ...("width" in task && { width: task.width }),
    ...(flops !== undefined && { flops }),
    ...(tokens !== undefined && { tokens }),
  };
}

const absent: Record<string, string> = {};
const racing = new Set<Connection>();
const load = loadavg()[0]!;
for (const participant of everyone.filter(({ id }) => only.has(id))) {
  const { name, command } = participant;
  try {
    if ("absent" in command) throw new Error(command.absent);
    racing.add(await Connection.open(participant, command as readonly string[]));
  } catch (error) {
    absent[name] = (error as Error).message;
    if (!options.json) console.log(`without ${name}: ${absent[name]}`);
  }
}
const started = [...racing];
const rows: Row[] = [];
try {
  const widths = [34, ...started.map(({ participant }) => Math.max(8, participant.id.length))];
  for (const part of parts) {
    if (!options.json) {
      const unit = part === "gemm" ? "GFLOP/s" : "ms";
      console.log(`\n${line([unit, ...started.map(({ participant }) => participant.id)], widths)}`);
    }
    for (const task of await tasksOf(part, options.full)) {
      const row = await measure(part, task);
      rows.push(row);
      if (options.json) continue;
      const cells = started.map(({ participant: { id } }) => {
        const own = row.ms[id];
        if (own === undefined) return "-";
        return row.flops ? (row.flops / own / 1e6).toFixed(1) : own.toPrecision(3);
      });
      console.log(line([row.label, ...cells], widths));
      for (const [id, reason] of Object.entries(row.cannot)) {
        if (reason.startsWith("disagrees")) console.log(`  ${id} ${reason}`);
      }
    }
  }
} finally {
  for (const connection of started) connection.close();
}

const git = spawnSync("git", ["rev-parse", "--short", "HEAD"], { cwd: root, encoding: "utf8" });
const now: Results = {
  date: new Date().toISOString().slice(0, 10),
  commit: git.status === 0 ? git.stdout.trim() : "unknown",
  ...{ cpu: cpus()[0]?.model.trim() ?? "unknown", cores: availableParallelism(), load },
  participants: started.map(({ participant: { id, name }, hello }) => ({ id, name, ...hello })),
  ...{ absent, rows },
};
if (options.json) console.log(JSON.stringify({ bench: "rivals", ...now }));
else {
  console.log();
  for (const { text, least, found } of expectations(rows)) {
    if (found === undefined) continue;
    const verdict = found >= least ? "reached" : "not reached";
    console.log(line([text, `${found.toFixed(2)} x`, `of ${least} x`, verdict], [66, 9, 9, 13]));
  }
}
if (!options.quick && options.only === undefined) {
  const cache = join(folder, "results.json");
  const earlier = existsSync(cache) && JSON.parse(readFileSync(cache, "utf8"));
  const all = merged(parts.length === PARTS.length ? undefined : earlier || undefined, now);
  writeFileSync(cache, JSON.stringify(all));
  writeFileSync(join(root, "bench/RESULTS.md"), markdown(all));
  writeFileSync(join(root, "bench/rivals.svg"), chart(all));
  appendFileSync(join(root, "bench/history.jsonl"), `${historyLine(all)}\n`);
  if (!options.json)
    console.log("\nwritten: bench/RESULTS.md, bench/rivals.svg, bench/history.jsonl");
}
