/** bench/RESULTS.md and a line of bench/history.jsonl, from what a run found. */

import {
  columnsOf,
  expectations,
  GROUPS,
  geometricMean,
  PARTS,
  type Results,
  type Row,
  ratios,
  type Who,
} from "./results.ts";
import type { Part } from "./tasks.ts";

const TITLES: Record<Part, string> = {
  gemm: "Matrix products, GFLOP/s",
  ops: "Single ops, milliseconds",
  step: "One training step (32 x 64 tokens), milliseconds",
  decode: "Decoding 48 tokens after prompts of 16, milliseconds",
};

const table = (lines: readonly (readonly string[])[]): string =>
  lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");

const digits = (x: number): string =>
  x < 0.1 ? x.toFixed(4) : x < 10 ? x.toFixed(2) : x.toFixed(x < 100 ? 1 : 0);
const times = (x: number): string => `${x < 10 ? x.toFixed(2) : x.toFixed(0)} x`;

/** A row's cell for one participant: its figure, and how many times as long as ours it took. */
function cell({ ms, cannot, flops }: Row, id: string): string {
  const own = ms[id];
  if (own === undefined) return cannot[id] === undefined ? "" : "-";
  const figure = flops === undefined ? digits(own) : (flops / own / 1e6).toFixed(1);
  if (id === "ours" || ms.ours === undefined) return figure;
  return `${figure} (${times(own / ms.ours)})`;
}

function partTable({ rows, participants, parts }: Results, part: Part): string {
  const own = rows.filter((row) => row.part === part);
  const columns = columnsOf(participants).filter(({ id }) =>
    own.some(({ ms }) => ms[id] !== undefined),
  );
  const head = ["", ...columns.map(({ name }) => name)];
  const rule = ["---", ...columns.map(() => "---:")];
  const body = own.map((row) => [row.label, ...columns.map(({ id }) => cell(row, id))]);
  const { commit, date, load, strangers } = parts[part]!;
  const others =
    strangers === undefined ? "" : `;\nother programs kept ${strangers.toFixed(2)} cores busy`;
  const when = `Commit ${commit}, ${date}, load average ${load.toFixed(1)} at the start${others}.`;
  return `## ${TITLES[part]}\n\n${when}\n\n${table([head, rule, ...body])}\n`;
}

function groupTable({ rows, participants }: Results): string {
  const rivals = columnsOf(participants).filter(({ id }) => id !== "ours");
  const head = ["", ...rivals.map(({ name }) => name)];
  const rule = ["---", ...rivals.map(() => "---:")];
  const body = GROUPS.filter((group) => rows.some((row) => row.group === group)).map((group) => {
    const own = rows.filter((row) => row.group === group);
    const cells = rivals.map(({ id }) => {
      const found = ratios(own, id);
      return found.length === 0 ? "" : times(geometricMean(found));
    });
    return [group, ...cells];
  });
  return table([head, rule, ...body]);
}

function expectationTable({ rows }: Results): string {
  const lines = expectations(rows).map(({ text, least, found }) => {
    const verdict =
      found === undefined ? "not measured" : found >= least ? "reached" : "not reached";
    return [text, `${least} x`, found === undefined ? "" : times(found), verdict];
  });
  return table([["", "expected", "found", ""], ["---", "---:", "---:", "---"], ...lines]);
}

/** Every reason once, with the tasks that it holds for. */
function refusals({ rows, participants }: Results): string {
  const lines = columnsOf(participants).flatMap(({ id, name }) => {
    const reasons = new Map<string, string[]>();
    for (const { cannot, label } of rows) {
      const reason = cannot[id];
      if (reason !== undefined) reasons.set(reason, [...(reasons.get(reason) ?? []), label]);
    }
    return [...reasons].map(([reason, labels]) => {
      const which = labels.length > 3 ? `${labels.length} tasks` : labels.join(", ");
      return `- ${name}: ${reason} (${which})`;
    });
  });
  return lines.join("\n");
}

function participantLine({ name, version, threads, busy }: Who): string {
  const count = `${threads} thread${threads === 1 ? "" : "s"}`;
  if (busy === undefined) return `- ${name}: ${version}, ${count}`;
  const [timed, idle] = [busy.timed.toFixed(1), busy.idle.toFixed(2)];
  return `- ${name}: ${version}, ${count}; ${timed} cores busy when timed, ${idle} when others were`;
}

/** The whole of bench/RESULTS.md. */
export function markdown(results: Results): string {
  const { date, cpu, cores, participants, absent, rows } = results;
  const without = Object.entries(absent).map(([name, why]) => `- ${name}: ${why}`);
  const parts = PARTS.filter((part) => rows.some((row) => row.part === part));
  return `# Against the rivals

Written by \`npm run bench:rivals\`; do not edit. ${date}; ${cpu}, ${cores} cores.

Every participant is a process of its own, gets the same numbers, and is timed in turn, in several
rounds, so that the machine's moods meet all of them; the others sleep meanwhile. A figure is the
median of a round, of the best round. Results are compared first: what disagrees is not timed. In
brackets: how many times as long as anamnesis on Node the same task took; above 1 anamnesis is
faster. Results of products and ops stay in the library, except that onnxruntime-web copies its
operands in and its result out at each call and has no way around it. A training step hands out its
loss and gradient norm, decoding its tokens. jax-js runs in two runtimes; the faster one counts.

## In short

Geometric means of those ratios:

${groupTable(results)}

What was expected:

${expectationTable(results)}

![time of each rival over ours](rivals.svg)

${parts.map((part) => partTable(results, part)).join("\n")}
## Participants

${participants.map(participantLine).join("\n")}
${without.length === 0 ? "" : `\nAbsent:\n\n${without.join("\n")}\n`}
A dash in a table: not timed.
${refusals(results)}

## The webgpu device

GPU: not run on a GPU. \`bun run bench/gpu.ts\` measures it there, beside PyTorch; \`bench/pack-gpu.sh\`
makes a folder for a machine without a network.
`;
}

/** One line of bench/history.jsonl. */
export function historyLine(results: Results): string {
  const { date, commit, cpu, load, strangers, participants: all, rows } = results;
  const participants = columnsOf(all);
  // Parts of earlier commits have their line already.
  const fresh = rows.filter(({ part }) => results.parts[part]?.commit === commit);
  const groups = GROUPS.filter((group) => fresh.some((row) => row.group === group));
  const found = groups.map((group) => {
    const own = fresh.filter((row) => row.group === group);
    const means = participants.flatMap(({ id }) => {
      const values = ratios(own, id);
      return id === "ours" || values.length === 0
        ? []
        : [[id, Number(geometricMean(values).toPrecision(3))] as const];
    });
    return [group, Object.fromEntries(means)] as const;
  });
  const versions = Object.fromEntries(participants.map(({ id, version }) => [id, version]));
  return JSON.stringify({
    date,
    commit,
    cpu,
    load,
    strangers,
    versions,
    ratios: Object.fromEntries(found),
  });
}
