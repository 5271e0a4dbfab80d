/** Texts as words of a shell, values of a Hydra override, and scalars of YAML, whatever they hold. */

/** A word that a POSIX shell reads as `text`. */
export const shellQuote = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

/**
 * A value of a Hydra override that OmegaConf reads as `text`: in its quotes a backslash has a meaning
 * before a quote alone, and `${` begins an interpolation even there, unless a backslash precedes it.
 */
export function hydraQuote(text: string): string {
  const literal = text.replace(/(\\*)\$\{/g, (_, slashes: string) => `${slashes}${slashes}\\\${`);
  return `"${literal.replace(/(\\*)("|$)/g, (_, slashes: string, end: string) => {
    return slashes + slashes + (end === "" ? "" : `\\${end}`);
  })}"`;
}

/** What JSON leaves as it is, and YAML's readers refuse or take for the end of a line. */
const UNPRINTABLE = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;

/** One line of YAML: JSON, which is YAML, but for numbers that YAML 1.1 would read as text. */
export function yamlValue(value: unknown): string {
  const text = JSON.stringify(value, (_, inner) =>
    typeof inner === "string" ? inner.toWellFormed() : inner,
  );
  return text
    .replace(UNPRINTABLE, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .replace(
      /("(?:[^"\\]|\\.)*")|(-?\d+)(\.\d+)?e([+-]?\d+)/g,
      (whole, quoted, int, frac, exponent) =>
        quoted === undefined ? `${int}${frac ?? ".0"}e${exponent}` : whole,
    );
}
