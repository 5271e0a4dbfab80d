/** Reads a value of a Hydra override, so that tests see what an engine would. */

import assert from "node:assert/strict";

/** A Hydra override's quoted value, read as its grammar says, then as OmegaConf reads text. */
export function hydraText(value: string): string {
  assert.match(value, /^".*"$/s);
  const inner = value.slice(1);
  const unquoted = inner.replace(/(\\*)"/g, (whole, slashes: string, at: number) => {
    const last = at + whole.length === inner.length;
    assert.equal(slashes.length % 2, last ? 0 : 1, "only the last quote is bare");
    return slashes.slice(0, Math.floor(slashes.length / 2)) + (last ? "" : '"');
  });
  return unquoted.replace(/(\\*)\$\{/g, (_, slashes: string) => {
    assert.equal(slashes.length % 2, 1, "an interpolation");
    return `${slashes.slice(0, (slashes.length - 1) / 2)}\${`;
  });
}
