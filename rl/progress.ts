/** Progress of a run: bars on a terminal, a line every few seconds in a pipe; seconds per stage. */
import { SingleBar } from "cli-progress";
import { compact, short } from "../eval/table.ts";

/** Where progress is written; process.stderr is one. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

export interface ProgressOptions {
  readonly output?: Output;
  /** Seconds between lines in a pipe. */
  readonly everySeconds?: number;
  /** Milliseconds since any fixed moment. */
  readonly now?: () => number;
}

export interface StageOptions {
  /** What a step works through, for the rate: "tok". */
  readonly unit?: string;
  /** How many of these units a step holds. */
  readonly perStep?: number;
  /** Step at which a resumed stage starts. */
  readonly from?: number;
}

export type Values = Readonly<Record<string, number | string>>;

/** One stage of a run. Declare it with `using`, so that its bar goes away after an error, too. */
export interface Stage extends Disposable {
  /** Says that `done` steps of all are done, with figures to show: { loss: 1.234 }. */
  update(done: number, values?: Values): void;
  /** Ends the stage with all steps done. */
  finish(values?: Values): void;
}

/** "pretrain 400/1200 loss 1.234 12.3k tok/s eta 35s" */
export function progressLine(
  name: string,
  done: number,
  total: number,
  seconds: number,
  values: Values = {},
  { unit, perStep = 1, from = 0 }: StageOptions = {},
): string {
  const rate = seconds > 0 ? (done - from) / seconds : 0;
  const figures = Object.entries(values).map(
    ([key, value]) => `${key} ${typeof value === "number" ? short(value) : value}`,
  );
  const speed = unit !== undefined && rate > 0 ? [`${compact(rate * perStep)} ${unit}/s`] : [];
  const left = rate > 0 && done < total ? [`eta ${clock((total - done) / rate)}`] : [];
  const end = done >= total ? [`in ${clock(seconds)}`] : [];
  return [`${name} ${done}/${total}`, ...figures, ...speed, ...left, ...end].join(" ");
}

/** Shows stages one after the other and records how long each took. */
export class Progress {
  readonly #output: Output;
  readonly #interval: number;
  readonly #now: () => number;
  readonly #seconds: Record<string, number> = {};
  #open: (Disposable & { redraw(): void; clear(): void }) | null = null;

  constructor({ output = process.stderr, everySeconds = 5, now }: ProgressOptions = {}) {
    this.#output = output;
    this.#interval = everySeconds * 1000;
    this.#now = now ?? (() => performance.now());
  }

  /** Seconds per stage so far; a stage that was entered twice counts both times. */
  get seconds(): Readonly<Record<string, number>> {
    return { ...this.#seconds };
  }

  /** Writes a line of text without tearing the bar. */
  print(text: string): void {
    this.#open?.clear();
    this.#output.write(`${text}\n`);
    this.#open?.redraw();
  }

  /** Times work that has no steps to count. */
  async time<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    const start = this.#now();
    try {
      return await work();
    } finally {
      this.#record(name, start);
    }
  }

  /** Begins a stage of `total` steps; one that is still open ends. */
  stage(name: string, total: number, options: StageOptions = {}): Stage {
    this.close();
    const start = this.#now();
    const bar = this.#output.isTTY ? openBar(this.#output, total, options.from ?? 0) : null;
    let printed = start;
    let done = options.from ?? 0;
    let shown: Values = {};
    const line = () =>
      progressLine(name, done, total, (this.#now() - start) / 1000, shown, options);
    const end = () => {
      if (this.#open !== stage) return;
      this.#open = null;
      bar?.stop();
      this.#record(name, start);
    };
    const stage = {
      update: (step: number, values: Values = {}) => {
        [done, shown] = [step, values];
        bar?.update(step, { line: line() });
        if (bar !== null || this.#now() - printed < this.#interval) return;
        printed = this.#now();
        this.#output.write(`${line()}\n`);
      },
      finish: (values: Values = shown) => {
        if (this.#open !== stage) return;
        [done, shown] = [total, values];
        if (bar === null) this.#output.write(`${line()}\n`);
        else bar.update(total, { line: line() });
        end();
      },
      // Back to the line's start and erase it, then draw again below what was printed.
      clear: () => bar && this.#output.write("\r\u001b[K"),
      redraw: () => bar?.render(),
      [Symbol.dispose]: end,
    };
    this.#open = stage;
    bar?.update(done, { line: line() });
    return stage;
  }

  /** Ends the open stage, if any: takes its bar's timer away, so that the process can end. */
  close(): void {
    this.#open?.[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #record(name: string, start: number): void {
    this.#seconds[name] = (this.#seconds[name] ?? 0) + (this.#now() - start) / 1000;
  }
}

/** Leaves wrapping, cursor and signals alone: a crash then has nothing to give back. */
function openBar(stream: Output, total: number, from: number) {
  const bar = new SingleBar({
    format: "{bar} {line}",
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 24,
    stream: stream as NodeJS.WritableStream,
    linewrap: true,
    gracefulExit: false,
    fps: 8,
    forceRedraw: true,
  });
  bar.start(total, from, { line: "" });
  return bar;
}

const clock = (seconds: number) => {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}m${String(whole % 60).padStart(2, "0")}s`;
  return `${Math.floor(minutes / 60)}h${String(minutes % 60).padStart(2, "0")}m`;
};
