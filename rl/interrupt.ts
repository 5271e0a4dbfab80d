/** Ctrl-C and SIGTERM: the first asks the run to stop where it can, the second ends it at once. */

export interface Interrupt {
  /** Whether a signal has arrived. */
  readonly requested: boolean;
  /** Whether who is stopped now saves a checkpoint first, for what is printed. */
  saves?: boolean;
  /**
   * Lets pending signals in, then says whether one has arrived. Signals reach JavaScript only
   * between turns of the event loop, so that a loop without this never hears them.
   */
  check(): Promise<boolean>;
  /** Gives the signals back to the system. */
  [Symbol.dispose](): void;
}

export interface InterruptOptions {
  readonly print?: (text: string) => void;
  readonly exit?: (code: number) => void;
}

/** Starts to listen; the second signal exits with code 130. */
export function onInterrupt({
  print = (text) => console.error(text),
  exit = (code) => process.exit(code),
}: InterruptOptions = {}): Interrupt {
  let requested = false;
  const listener = () => {
    if (requested) return exit(130);
    requested = true;
    const then = interrupt.saves ? "saving a checkpoint" : "going on to where it can be stopped";
    print(`${then}; press again to quit at once`);
  };
  const interrupt: Interrupt = {
    saves: false,
    get requested() {
      return requested;
    },
    async check() {
      await new Promise<void>((resolve) => setImmediate(resolve));
      return requested;
    },
    [Symbol.dispose]() {
      process.off("SIGINT", listener);
      process.off("SIGTERM", listener);
    },
  };
  process.on("SIGINT", listener);
  process.on("SIGTERM", listener);
  return interrupt;
}
