/** WGSL of f16 in memory, two in a word: no adapter needs shader-f16 for it. */

/**
 * vec2f of a word, and the 16 bits of a number, to nearest even. unpack2x16float may read subnormals
 * as 0, and pack2x16float may round any way and has no word for infinity: both are spelled out.
 */
export const HALVES = `
fn halves(word: u32) -> vec2f {
  let size = vec2u(word & 0x7fffu, (word >> 16u) & 0x7fffu);
  let sign = vec2f(select(1.0, -1.0, (word & 0x8000u) != 0u), select(1.0, -1.0, word >= 0x80000000u));
  return select(unpack2x16float(word), sign * vec2f(size) * 5.9604644775390625e-8, size < vec2u(0x400u));
}
fn half_bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let size = bits & 0x7fffffffu;
  let exponent = size >> 23u;
  // Below 2^-14 the fraction, with its hidden bit, is cut off at steps of 2^-24; else at 10 bits.
  let cut = select(13u, min(126u - min(exponent, 126u), 25u), exponent < 113u);
  let whole = select(size - 0x38000000u, (size & 0x7fffffu) | 0x800000u, exponent < 113u);
  let rest = whole & ((1u << cut) - 1u);
  let middle = 1u << (cut - 1u);
  let down = whole >> cut;
  let rounded = down + select(0u, 1u, rest > middle || (rest == middle && (down & 1u) == 1u));
  let finite = select(rounded, 0x7c00u, size >= 0x47800000u);
  return ((bits >> 16u) & 0x8000u) | select(finite, 0x7e00u, size > 0x7f800000u);
}
`;

/** WGSL: half_of_NAME(i), element i of an array of halves as f32; of an array of fours, four i. */
export const halfReader = (name: string, fours: boolean): string =>
  fours
    ? `fn half_of_${name}(i: u32) -> vec4f {
  let words = ${name}[i];
  return vec4f(halves(words.x), halves(words.y));
}`
    : `fn half_of_${name}(i: u32) -> f32 {
  let pair = halves(${name}[i / 2u]);
  return select(pair.x, pair.y, (i & 1u) == 1u);
}`;
