/** A GGUF file whose matrices are Q8_0: llama.cpp's rounding, for tests of the reader. */

import { writeFileSync } from "node:fs";
import type { Model } from "../../model/checkpoint.ts";
import { ggufArrays, reorderHeads } from "../../model/gguf_layout.ts";
import { concatenated, metadataBytes, textBytes, u32, u64 } from "../../model/gguf_metadata.ts";
import { ggufMetadata } from "../../model/gguf_model.ts";
import { ggufTokenizer } from "../../model/gguf_tokenizer.ts";
import { halfBits, halfToFloat } from "../../tensor/mod.ts";

/** 32 numbers as an f16 scale, the largest size over 127, and whole numbers of 8 bits. */
function blockOf(values: Float32Array): { bytes: Uint8Array; rounded: Float32Array } {
  const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const scale = halfBits(largest / 127);
  const factor = halfToFloat(scale);
  const whole = Int8Array.from(values, (x) => (factor === 0 ? 0 : Math.round(x / factor)));
  const bytes = Uint8Array.of(scale & 255, scale >> 8, ...new Uint8Array(whole.buffer));
  return { bytes, rounded: Float32Array.from(whole, (n) => n * factor) };
}

/** Writes the model; returns each parameter's values as the file holds them. */
export function writeQuantised(path: string, model: Model): Map<string, Float32Array> {
  const { config, parameters, tokenizer } = model;
  const metadata = [...ggufMetadata(config, "quantised"), ...ggufTokenizer(config, tokenizer)];
  const held = new Map<string, Float32Array>();
  let offset = 0;
  const infos: Uint8Array[] = [];
  const data: Uint8Array[] = [];
  const arrays = ggufArrays(config);
  for (const { name, shape, parts, turned, isMatrix } of arrays) {
    const stored = parts.flatMap((part) => {
      const own = Float32Array.from(parameters.get(part)!.dataSync());
      const rows = parameters.get(part)!.shape[0]!;
      const values = turned > 0 ? reorderHeads(own, rows, turned) : own;
      if (!isMatrix) {
        held.set(part, own);
        return [new Uint8Array(values.buffer)];
      }
      const blocks = Array.from({ length: values.length / 32 }, (_, i) => {
        return blockOf(values.subarray(32 * i, 32 * i + 32));
      });
      const rounded = Float32Array.from(blocks.flatMap((block) => [...block.rounded]));
      held.set(part, turned > 0 ? reorderHeads(rounded, rows, turned, true) : rounded);
      return blocks.map(({ bytes }) => bytes);
    });
    const bytes = concatenated(stored);
    const padding = new Uint8Array(Math.ceil(bytes.length / 32) * 32 - bytes.length);
    const sizes = shape.toReversed().map(u64);
    infos.push(textBytes(name), u32(shape.length), ...sizes, u32(isMatrix ? 8 : 0), u64(offset));
    data.push(bytes, padding);
    offset += bytes.length + padding.length;
  }
  const header = concatenated([
    new TextEncoder().encode("GGUF"),
    ...[u32(3), u64(arrays.length), u64(metadata.length)],
    ...metadata.map(([key, value]) => metadataBytes(key, value)),
    ...infos,
  ]);
  const padding = new Uint8Array(Math.ceil(header.length / 32) * 32 - header.length);
  writeFileSync(path, concatenated([header, padding, ...data]));
  return held;
}
