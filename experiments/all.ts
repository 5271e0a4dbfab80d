/** The experiments, in the order of the paper's claims; ours behind them. */

import { experiment as recall } from "./c01_recall.ts";
import { experiment as methods } from "./c02_methods.ts";
import { experiment as dynamics } from "./c03_dynamics.ts";
import { experiment as vote } from "./c05_vote.ts";
import { experiment as think } from "./c06_think.ts";
import { experiment as ppo } from "./c07_ppo.ts";
import { experiment as transfer } from "./c08_transfer.ts";
import { experiment as scale } from "./c09_scale.ts";
import { experiment as repair } from "./c10_repair.ts";
import { experiment as passAtK } from "./c11_pass_at_k.ts";
import { experiment as strata } from "./c13_strata.ts";
import { experiment as exact } from "./c16_exact.ts";
import { experiment as judge } from "./c17_judge.ts";
import { experiment as dedup } from "./c18_dedup.ts";
import type { Experiment } from "./claim.ts";
import { experiment as controls } from "./o1_controls.ts";
import { experiment as ledger } from "./o4_ledger.ts";
import { experiment as larger } from "./o5_larger.ts";

export const experiments: readonly Experiment[] = [
  ...[recall, methods, dynamics, transfer, vote, think, ppo, scale],
  ...[repair, passAtK, strata, exact, judge, dedup],
  ...[controls, ledger, larger],
];
