/** TensorBoard's event files: scalars as protocol buffers in checksummed records. */
// The format: https://www.tensorflow.org/tutorials/load_data/tfrecord (records) and event.proto,
// summary.proto of TensorBoard: Event { double wall_time = 1; int64 step = 2; string file_version = 3;
// Summary summary = 5 }, Summary { Value value = 1 }, Value { string tag = 1; float simple_value = 2 }.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c;
});

/** CRC-32C (Castagnoli), https://www.rfc-editor.org/rfc/rfc3720#appendix-B.4. */
export function crc32c(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of bytes) c = TABLE[(c ^ byte) & 255]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** Rotated and shifted, as records store it: a checksum of a checksum would be weak. */
const masked = (crc: number): number => ((((crc >>> 15) | (crc << 17)) >>> 0) + 0xa282ead8) >>> 0;

/** length, its checksum, data, their checksum. */
function record(data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(data.length + 16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, masked(crc32c(bytes.subarray(0, 8))), true);
  bytes.set(data, 12);
  view.setUint32(12 + data.length, masked(crc32c(data)), true);
  return bytes;
}

const LENGTH_DELIMITED = 2;
const tagOf = (field: number, wire: number): number => (field << 3) | wire;

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = BigInt(value);
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  return [...bytes, Number(rest)];
}

const delimited = (field: number, bytes: ArrayLike<number>): number[] => [
  ...[tagOf(field, LENGTH_DELIMITED), ...varint(bytes.length)],
  ...Array.from(bytes),
];
const text = (field: number, value: string): number[] =>
  delimited(field, new TextEncoder().encode(value));

function fixed(field: number, value: number, bytes: 4 | 8): number[] {
  const view = new DataView(new ArrayBuffer(bytes));
  if (bytes === 8) view.setFloat64(0, value, true);
  else view.setFloat32(0, value, true);
  return [tagOf(field, bytes === 8 ? 1 : 5), ...new Uint8Array(view.buffer)];
}

/** What a file begins with. `time` in seconds since 1970. */
export const fileHeader = (time: number): Uint8Array =>
  record(Uint8Array.from([...fixed(1, time, 8), ...text(3, "brain.Event:2")]));

/** The scalars of one step. */
export function scalarEvent(
  time: number,
  step: number,
  scalars: Readonly<Record<string, number>>,
): Uint8Array {
  const values = Object.entries(scalars).flatMap(([tag, value]) =>
    delimited(1, [...text(1, tag), ...fixed(2, value, 4)]),
  );
  const stepField = [tagOf(2, 0), ...varint(step)];
  return record(Uint8Array.from([...fixed(1, time, 8), ...stepField, ...delimited(5, values)]));
}
