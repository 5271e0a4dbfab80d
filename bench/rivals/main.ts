/** Ours against the rivals: every participant in its own process, the same tasks, timed in turn. */
// Question: how fast is this library beside what else a user could take? Writes bench/RESULTS.md,
// a line of bench/history.jsonl and bench/rivals.svg (not with --quick or --only).

import { spawnSync } from "node:child_process";
import { availableParallelism, cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { line } from "../support.ts";
import { disagreement } from "./agreement.ts";
import { Connection } from "./connection.ts";
import { install, root } from "./install.ts";
import { participantsOf } from "./participants.ts";
import type { Reply } from "./protocol.ts";
import { columnsOf, expectations, groupOf, PARTS, type Results, type Row } from "./results.ts";
import { save } from "./save.ts";
import { tasksOf } from "./suite.ts";
import { flopsOf, labelOf, type Part, type Task, tokensOf } from "./tasks.ts";
import { Usage } from "./usage.ts";

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
  const ids = [...new Set(everyone.map(({ id }) => id))].join(" ");
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
const [ROUNDS, TURN_MS] = options.quick ? [1, 30] : [4, 100];
/** Turns that took longer than this, together, are enough: the mean over it is long already. */
const ENOUGH_MS = 3000;

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
  const ms: Record<string, number> = {};
  for (let round = 0; round < ROUNDS; round++) {
    for (const [connection, own] of samples) {
      if (own.reduce((sum, one) => sum + one, 0) > ENOUGH_MS) continue;
      const turn = () => ask(connection, { time: TURN_MS });
      const reply = await usage.during(connection, racing, turn);
      const { id } = connection.participant;
      if (reply.ms === undefined) {
        cannot[id] = reply.cannot ?? "gave no time";
        continue;
      }
      own.push(reply.ms);
      ms[id] = Math.min(ms[id] ?? Infinity, reply.ms);
    }
  }
  for (const connection of [...racing]) await ask(connection, { release: true });
  const [flops, tokens] = [flopsOf(task), tokensOf(task)];
  return {
    ...{ part, group: groupOf(task), label: labelOf(task), ms, cannot },
    ...("width" in task && { width: task.width }),
    ...(flops !== undefined && { flops }),
    ...(tokens !== undefined && { tokens }),
  };
}

const absent: Record<string, string> = {};
const racing = new Set<Connection>();
const usage = new Usage<Connection>();
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
  const columns = columnsOf(
    started.map(({ participant, hello }) => ({ ...participant, ...hello })),
  );
  const widths = [34, ...columns.map(({ id }) => Math.max(8, id.length))];
  for (const part of parts) {
    if (!options.json) {
      const unit = part === "gemm" ? "GFLOP/s" : "ms";
      console.log(`\n${line([unit, ...columns.map(({ id }) => id)], widths)}`);
    }
    for (const task of await tasksOf(part, options.full)) {
      const row = await measure(part, task);
      rows.push(row);
      if (options.json) continue;
      const cells = columns.map(({ id }) => {
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

function commitHere(): string {
  const git = (...args: string[]) => spawnSync("git", args, { cwd: root, encoding: "utf8" });
  const { status, stdout } = git("rev-parse", "--short", "HEAD");
  if (status !== 0) return "unknown";
  const clean = git("diff", "--quiet", "HEAD", "--", "tensor", "model").status === 0;
  return `${stdout.trim()}${clean ? "" : " with local changes"}`;
}

const strangers = usage.strangers();
const measured = {
  ...{ date: new Date().toISOString().slice(0, 10), commit: commitHere(), load },
  ...(strangers !== undefined && { strangers }),
};
const now: Results = {
  ...measured,
  ...{ cpu: cpus()[0]?.model.trim() ?? "unknown", cores: availableParallelism() },
  participants: started.map((connection) => {
    const { participant, hello } = connection;
    const busy = usage.of(connection);
    return { id: participant.id, name: participant.name, ...hello, ...(busy && { busy }) };
  }),
  parts: Object.fromEntries(parts.map((part) => [part, measured])),
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
  save(now, parts.length < PARTS.length);
  if (!options.json)
    console.log("\nwritten: bench/RESULTS.md, bench/rivals.svg, bench/history.jsonl");
}
