#!/usr/bin/env bun
/** The paper's claims, one after the other, and a report that puts both side by side. */

import { runMain } from "../rl/user_error.ts";
import { experiments } from "./all.ts";
import { reproduce } from "./main.ts";

await runMain(() => reproduce(experiments, process.argv.slice(2)));
