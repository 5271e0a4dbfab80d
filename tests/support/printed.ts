/** Runs a command in this process, and keeps what it prints. */

export interface Printed {
  readonly code: number;
  /** Lines on both streams, in their order; and on each. */
  readonly lines: readonly string[];
  readonly out: readonly string[];
  readonly errors: readonly string[];
}

/** Awaits `main`'s exit code; the console is what it was afterwards, whatever happens. */
export async function printedBy(main: () => number | Promise<number>): Promise<Printed> {
  const [lines, out, errors]: [string[], string[], string[]] = [[], [], []];
  const { log, error } = console;
  const into = (stream: string[]) => (text: unknown) => {
    lines.push(String(text));
    stream.push(String(text));
  };
  Object.assign(console, { log: into(out), error: into(errors) });
  try {
    return { code: await main(), lines, out, errors };
  } finally {
    Object.assign(console, { log, error });
  }
}
