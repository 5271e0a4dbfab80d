/** The optimizer that a run's settings name. */

import { Muon } from "../model/muon.ts";
import { AdamW, type Optimizer } from "../model/optimizer.ts";
import type { ParameterTree } from "../model/parameters.ts";
import { Sgd } from "../model/sgd.ts";
import type { TrainConfig } from "./config.ts";

export function optimizerOf({ optimizer }: TrainConfig, parameters: ParameterTree): Optimizer {
  const { name, weightDecay, betas, momentum, clipNorm } = optimizer;
  const adam = { weightDecay, betas: [betas[0], betas[1]] as const, clipNorm };
  switch (name) {
    case "adamw":
      return new AdamW(parameters, adam);
    case "muon":
      return new Muon(parameters, { ...adam, momentum });
    case "sgd":
      return new Sgd(parameters, { weightDecay, momentum, clipNorm });
  }
}

/** For the header: what an update does, without its rate. */
export function optimizerText({ optimizer }: TrainConfig): string {
  const { name, betas, momentum, weightDecay, clipNorm } = optimizer;
  const adam = `AdamW betas ${betas.join("/")}`;
  const kinds = {
    adamw: adam,
    muon: `Muon (matrices of the blocks, momentum ${momentum}; the rest ${adam})`,
    sgd: `SGD momentum ${momentum}`,
  };
  return `${kinds[name]}, weight decay ${weightDecay}, gradient norm clipped at ${clipNorm}`;
}
