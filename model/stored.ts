/** What a model's products read: f32, or copies in f16 on a device that stores these. */

import type { Tensor } from "../tensor/mod.ts";

/**
 * What a product reads, and with it backward: on a device that stores f16 a copy in two bytes an
 * element, of a weight one for each pass. What is added up, the residual stream, stays f32.
 */
export const stored = (x: Tensor): Tensor => (x.device.storage === "f16" ? x.toF16() : x);
