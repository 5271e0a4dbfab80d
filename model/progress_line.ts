/** One line on stderr while many bytes are read or written: how much, of how much, how fast. */

export interface LineOptions {
  /** Bytes below which nothing is shown; default 10⁸. */
  readonly least?: number;
  /** Where it goes: on a terminal one line that changes, else one line at the end. */
  readonly stream?: { readonly isTTY?: boolean; write(text: string): unknown };
  /** Milliseconds. */
  readonly clock?: () => number;
}

/**
 * A hook for loadModel and saveModel: "reading ./model  1.2 of 3.1 GB, 38 %, 640 MB/s". Nothing is
 * shown where there is little to read.
 */
export function progressLine(
  what: string,
  { least = 1e8, stream = process.stderr, clock = () => performance.now() }: LineOptions = {},
): (bytes: number, total: number) => void {
  let started: number | undefined;
  let shown = -Infinity;
  return (bytes, total) => {
    const now = clock();
    started ??= now;
    const isLast = bytes >= total;
    if (total < least || !(isLast || (stream.isTTY && now - shown > 200))) return;
    shown = now;
    const seconds = (now - started) / 1000;
    const rate = seconds > 0 ? `, ${(bytes / 1e6 / seconds).toFixed(0)} MB/s` : "";
    const share = `${Math.floor((100 * bytes) / total)} %`;
    const text = `${what}  ${gigabytes(bytes)} of ${gigabytes(total)} GB, ${share}${rate}`;
    stream.write(stream.isTTY ? `\r\x1b[K${text}${isLast ? "\n" : ""}` : `${text}\n`);
  };
}

const gigabytes = (bytes: number): string => (bytes / 1e9).toFixed(bytes < 1e9 ? 2 : 1);
