/** The methods by name. */

import type { TrainConfig } from "../config.ts";
import { dpo } from "./dpo.ts";
import { grpo } from "./grpo.ts";
import type { Method } from "./method.ts";
import { ppo } from "./ppo.ts";
import { rft, sft } from "./supervised.ts";

const methods: Readonly<Record<TrainConfig["method"], Method>> = { grpo, ppo, sft, dpo, rft };

export const methodOf = ({ method }: Pick<TrainConfig, "method">): Method => methods[method];
