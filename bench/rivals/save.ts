/** Where a run's results go: bench/RESULTS.md, bench/rivals.svg, a line of bench/history.jsonl. */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chart } from "./chart.ts";
import { folder, root } from "./install.ts";
import { historyLine, markdown } from "./report.ts";
import { merged, type Results } from "./results.ts";

const read = (file: string): string => (existsSync(file) ? readFileSync(file, "utf8") : "");

/** `some`: only some parts were measured; the others keep their last results. */
export function save(now: Results, some: boolean): void {
  const cache = join(folder, "results.json");
  const earlier = some ? read(cache) : "";
  const all = merged(earlier === "" ? undefined : (JSON.parse(earlier) as Results), now);
  writeFileSync(cache, JSON.stringify(all));
  writeFileSync(join(root, "bench/RESULTS.md"), markdown(all));
  writeFileSync(join(root, "bench/rivals.svg"), chart(all));
  const history = join(root, "bench/history.jsonl");
  const lines = read(history).split("\n").filter(Boolean);
  const last = JSON.parse(lines.at(-1) ?? "{}") as Partial<Results>;
  // Parts measured one by one, on one day at one commit, are one run.
  if (some && last.commit === all.commit && last.date === all.date) lines.pop();
  writeFileSync(history, `${[...lines, historyLine(all)].join("\n")}\n`);
}
