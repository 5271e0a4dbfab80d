/** The coordinator's side of the protocol: one process, asked one thing at a time. */

import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Participant } from "./participants.ts";
import { type Hello, MARK, type Reply, type Request } from "./protocol.ts";

/** Milliseconds after which a participant is taken for lost. */
const PATIENCE = 300_000;
/** The unit of Linux' processor times. */
const TICK_MS = 10;

export class Connection {
  readonly participant: Participant;
  hello: Hello = { version: "", threads: 0 };
  private readonly child: ChildProcess;
  private lastWords = "";
  private waiting: ((answer: string | Error) => void) | undefined;
  private lost: Error | undefined;

  private constructor(participant: Participant, command: readonly string[]) {
    this.participant = participant;
    const env = { ...process.env, ...participant.env };
    this.child = spawn(command[0]!, command.slice(1), { env, stdio: ["pipe", "pipe", "pipe"] });
    this.child.stdin!.on("error", () => {});
    this.child.stderr!.on("data", (text) => {
      this.lastWords = `${this.lastWords}${text}`.slice(-400);
    });
    const lose = (why: string) => {
      const said = this.lastWords.trim().split("\n").at(-1) ?? "";
      this.lost = new Error(`${why}${said === "" ? "" : ` (${said.slice(0, 120)})`}`);
      this.waiting?.(this.lost);
    };
    this.child.on("error", (error) => lose(error.message));
    this.child.on("close", (code, signal) => lose(`its process ended with ${signal ?? code}`));
    createInterface({ input: this.child.stdout! }).on("line", (text) => {
      if (text.startsWith(MARK)) this.waiting?.(text.slice(MARK.length));
    });
  }

  /** Starts the process and waits until it has said who it is. */
  static async open(participant: Participant, command: readonly string[]): Promise<Connection> {
    const made = new Connection(participant, command);
    const hello = (await made.answer()) as Hello & Reply;
    if (hello.cannot !== undefined) {
      made.close();
      throw new Error(hello.cannot);
    }
    made.hello = hello;
    return made;
  }

  ask(request: Request): Promise<Reply> {
    this.child.stdin!.write(`${JSON.stringify(request)}\n`);
    return this.answer();
  }

  /** Milliseconds of processor time that all its threads have had; undefined outside Linux. */
  cpuMs(): number | undefined {
    if (process.platform !== "linux" || this.lost) return undefined;
    const text = readFileSync(`/proc/${this.child.pid}/stat`, "utf8");
    // After the name, which may hold spaces: user and system time are the 12th and 13th field.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return TICK_MS * (Number(fields[11]) + Number(fields[12]));
  }

  close(): void {
    this.child.kill();
  }

  private async answer(): Promise<Reply> {
    let timer: NodeJS.Timeout | undefined;
    try {
      const text = await new Promise<string>((resolve, reject) => {
        if (this.lost) return reject(this.lost);
        this.waiting = (answer) => (typeof answer === "string" ? resolve(answer) : reject(answer));
        timer = setTimeout(() => {
          this.child.kill();
          reject(new Error(`no answer within ${PATIENCE / 1000} s`));
        }, PATIENCE);
      });
      return JSON.parse(text) as Reply;
    } finally {
      clearTimeout(timer);
      this.waiting = undefined;
    }
  }
}
