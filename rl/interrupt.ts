/** Ctrl-C and SIGTERM: the first asks the run to save and stop, the second ends it at once. */

export interface Interrupt {
  /** Whether a signal has arrived. */
  readonly requested: boolean;
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
    print("saving a checkpoint; press again to quit at once");
  };
  process.on("SIGINT", listener);
  process.on("SIGTERM", listener);
  return {
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
}
