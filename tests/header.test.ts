/** What a run prints of its world holds of that world. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type WorldSettings, worldConfig } from "../eval/worlds/config.ts";
import { buildWorld } from "../eval/worlds/presets.ts";
import { worldText } from "../rl/header.ts";

const textOf = (settings: WorldSettings) => {
  const world = buildWorld(worldConfig.parse(settings));
  return { world, text: worldText(world).join("\n") };
};

test("shares of facts are counted, not repeated from the settings", () => {
  // Of Frontier's facts 70 % are absent, whatever the setting says.
  const { world, text } = textOf({ entities: 200, absentShare: 0.1, questionSets: "four" });
  const share = (statuses: readonly string[]): string => {
    const own = world.facts.filter(({ status }) => statuses.includes(status)).length;
    return `${Math.round((100 * own) / world.facts.length)} %`;
  };
  assert.ok(text.includes(`; ${share(["absent"])} are never stated truthfully`), text);
  assert.ok(text.includes(`a myth about ${share(["suppressed", "absent"])} of all facts`), text);
  assert.notEqual(share(["absent"]), "10 %");
});

test("what only some worlds have is told where it is there", () => {
  assert.doesNotMatch(textOf({}).text, /unknowable|names an answer|recall a statement|words\n/);
  const { text } = textOf({
    ...{ unknowableShare: 0.6, answerTokens: 2, aliases: 3, thinkShare: 0.5 },
    ...{ thinkUnreliableShare: 0.4, qaUnreliableShare: 0.8 },
  });
  assert.match(text, /60 % of the training labels replaced by unknowable ones/);
  assert.match(text, /answers of 2 words; 4 names an answer, gold random/);
  assert.match(text, /50 % of the question documents recall a statement first, 40 % of them an/);
});
