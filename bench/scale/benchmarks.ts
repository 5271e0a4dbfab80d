/** The training and decoding steps of bench/RESULTS.md, counted: what a quiet machine took for them. */

import { AdamW } from "../../model/optimizer.ts";
import { pretrain } from "../../model/pretrain.ts";
import { sample } from "../../model/sample.ts";
import { configOf, DEFAULT, randomBatch, type Size } from "../support.ts";
import { on, zeroParameters } from "./count.ts";
import { CountingDevice } from "./counting_device.ts";
import { type Kind, Tally } from "./tally.ts";

/** Its name in bench/RESULTS.md, and its launches. */
export interface Benchmark {
  readonly name: string;
  readonly half: "sample" | "learn";
  readonly kinds: readonly Kind[];
}

const ROWS = 32;
const POSITIONS = 64;
const PROMPT = 16;
const NEW_TOKENS = 48;
const BATCH = 256;

async function counted(size: Size, half: Benchmark["half"]): Promise<readonly Kind[]> {
  return on(new CountingDevice(), async (device) => {
    const tally = new Tally();
    device.onLaunch = (work) => tally.add(work);
    const config = configOf(size);
    const parameters = zeroParameters(config);
    if (half === "learn") {
      using optimizer = new AdamW(parameters, { clipNorm: 1 });
      const batch = randomBatch(ROWS, POSITIONS, size.vocabulary);
      const options = { parameters, config, optimizer, steps: 1 };
      await pretrain({ ...options, batches: () => batch, schedule: () => 1e-3 });
    } else {
      const { tokens } = randomBatch(BATCH, PROMPT, size.vocabulary);
      const prompts = Array.from({ length: BATCH }, (_, i) =>
        Array.from(tokens.slice(i * PROMPT, (i + 1) * PROMPT)),
      );
      await sample(parameters, config, prompts, { maxNewTokens: NEW_TOKENS, rowsPerBatch: BATCH });
    }
    return tally.kinds;
  });
}

export async function benchmarks(): Promise<Benchmark[]> {
  const found: Benchmark[] = [];
  for (const size of DEFAULT) {
    const name = `${size.width}/${size.depth}`;
    const learn = await counted(size, "learn");
    found.push({ name: `step ${name}`, half: "learn", kinds: learn });
    const decode = await counted(size, "sample");
    found.push({ name: `decode ${name}, batch ${BATCH}`, half: "sample", kinds: decode });
  }
  return found;
}
