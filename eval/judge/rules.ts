/** The judges that are rules, by the names that commands give them. */
import { aliasJudge } from "./alias.ts";
import { containsJudge } from "./contains.ts";
import { exactJudge } from "./exact.ts";
import type { Judge } from "./judge.ts";
import { normalisedJudge } from "./normalised.ts";

export const ruleNames = ["exact", "normalised", "alias", "contains"] as const;
export type RuleName = (typeof ruleNames)[number];

export const rules: Readonly<Record<RuleName, Judge>> = {
  exact: exactJudge,
  normalised: normalisedJudge,
  alias: aliasJudge,
  contains: containsJudge,
};
