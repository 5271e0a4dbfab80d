/** Which micro-kernel this runtime runs fastest. */
import type { Profile } from "./tile.ts";

export const profile = (): Profile => ({ rows: 6, vectors: 2, unroll: 8, fma: true });
