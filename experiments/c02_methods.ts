/** C2: which way to train recalls most, with clean labels and with labels that nobody can know? */

import { percent, type Table } from "../eval/table.ts";
import { runMain } from "../rl/user_error.ts";
import type { Experiment } from "./claim.ts";
import type { Lab } from "./lab.ts";
import { reproduce } from "./main.ts";
import { type Compared, dpo, grpo, methodRuns, methodsOf, rft, sft } from "./methods.ts";
import { differenceOf, gainOf, meanOf, pointOf, pool } from "./pooled.ts";
import type { Bars } from "./report/figures.ts";
import { quantityText } from "./report/model.ts";
import { oneSeed, type Scale, type WorldKind } from "./scale.ts";

const KINDS = ["voices", "unknowable", "names"] as const satisfies readonly WorldKind[];
type Kind = (typeof KINDS)[number];
const LABELS = {
  voices: "labels that are true",
  unknowable: "60 % unknowable labels",
  names: "answers of several names",
} as const;
/** What tells a contrast's quantity from that of the world where the claim is tested. */
const SUFFIX = { voices: ".clean", unknowable: "", names: ".names" } as const;

/** All seeds where the claim is tested; of the others one, but for GRPO's runs that others share. */
const runsFor = (scale: Scale, kind: Kind, method: Compared) => {
  const all = kind === "unknowable" || (kind === "voices" && method === grpo);
  return methodRuns(all ? scale : oneSeed(scale), kind, method);
};
const runs = (scale: Scale) =>
  KINDS.flatMap((kind) => methodsOf(scale, kind).flatMap((method) => runsFor(scale, kind, method)));

export const experiment: Experiment = {
  id: "c02_methods",
  title: "Methods side by side",
  question: "Does GRPO raise held-out recall more than RFT, SFT and DPO, and when?",
  claims: ["C2"],
  cautions: [
    "Where all labels are true and known (the first table), every method comes near the ceiling that " +
      "storage sets; the contrast needs labels that nobody can know. That the paper's data hold many " +
      "such labels is our reading, not its statement.",
    "In the world of several names, which is the nearest to the paper's numbers, half of the labels " +
      "are unknowable, there is one RL seed, and the rates are those tuned on answers of one word.",
    "RFT imitates its own right answers, so unknowable labels don't reach it: it is GRPO's " +
      "nearest neighbour here, and whether they differ is the least certain of the three.",
  ],
  runs,
  async analyse(lab) {
    const { scale } = lab;
    const rowsOf = (kind: Kind, method: Compared) => pool(lab, runsFor(scale, kind, method));
    const against = [
      ["methods.grpo-rft", rft],
      ["methods.grpo-sft", sft],
      ["methods.grpo-dpo", dpo],
    ] as const;
    const contrasts = KINDS.flatMap((kind) =>
      against.map(([id, other]) =>
        differenceOf(
          {
            id: `${id}${SUFFIX[kind]}`,
            label: `GRPO minus ${other.name}, ${LABELS[kind]}`,
          },
          rowsOf(kind, grpo),
          rowsOf(kind, other),
        ),
      ),
    );
    const gains = KINDS.flatMap((kind) =>
      methodsOf(scale, kind).map((method) =>
        gainOf(
          { id: `methods.${kind}.${method.name}`, label: `${method.name}, ${LABELS[kind]}` },
          rowsOf(kind, method),
        ),
      ),
    );
    return {
      sentences: contrasts.map((q) => `${q.label}: ${quantityText(q)}.`),
      quantities: [...contrasts, ...gains],
      tables: KINDS.map((kind) => methodTable(lab, kind)),
      figures: [await figure(lab)],
    };
  },
};

function methodTable(lab: Lab, kind: Kind): Table {
  const right = { align: "right" } as const;
  const rows = methodsOf(lab.scale, kind).map((method) => {
    const settings = runsFor(lab.scale, kind, method);
    const pooled = pool(lab, settings);
    const own = settings.map((one) => lab.run(one));
    const mean = (of: (run: (typeof own)[number]) => number) =>
      own.reduce((sum, run) => sum + of(run), 0) / own.length;
    const text = (when: "before" | "after") =>
      quantityText(meanOf({ id: "", label: "" }, pooled, (row) => row[when]));
    return [
      method.name,
      ...[text("before"), text("after"), percent(mean(({ summary }) => summary.heldout.lastStep))],
      `${mean(({ summary }) => summary.heldout.fixed).toFixed(0)} / ${mean(({ summary }) => summary.heldout.broken).toFixed(0)}`,
      percent(mean(({ summary }) => summary.train.after)),
      mean(({ summary }) => summary.seconds - (summary.stages.pretrain ?? 0)).toFixed(0),
    ];
  });
  return {
    title: `World with ${LABELS[kind]}: held-out accuracy`,
    columns: [
      { title: "method" },
      ...[
        ...["before", "after", "last step", "repaired / broken, a run"],
        ...["right by the training labels", "seconds"],
      ].map((title) => ({ title, ...right })),
    ],
    rows,
  };
}

async function figure(lab: Lab): Promise<Bars> {
  const methods = methodsOf(lab.scale, "unknowable");
  return {
    ...{ kind: "bars", name: "methods", title: "Held-out gain by method" },
    caption:
      "Gain in held-out accuracy, in points, by what the training labels are like. Whiskers: 95 %.",
    y: "gain, points",
    groups: methods.map(({ name }) => name),
    series: KINDS.map((kind) => ({
      name: LABELS[kind],
      values: methods.map((method, x) => {
        if (!methodsOf(lab.scale, kind).includes(method)) return null;
        const rows = pool(lab, runsFor(lab.scale, kind, method));
        return pointOf(gainOf({ id: "", label: "" }, rows), x);
      }),
    })),
  };
}

if (import.meta.main) await runMain(() => reproduce([experiment], process.argv.slice(2)));
