/** A folder with a small random model of whole words: what commands on real models are tried on. */

import { join } from "node:path";
import { saveModel } from "../../model/checkpoint.ts";
import { disposeParameters } from "../../model/parameters.ts";
import { wordTokenizer } from "../../model/tokenizer.ts";
import { tinyModel } from "../tiny_model.ts";

const special = ["<pad>", "<bos>", "<eos>"];
export const names = Array.from({ length: 24 }, (_, i) => `person${i}`);
export const places = ["here", "there", "home", "away"];
export const words = [...special, "Where", "is", "?", ...places, ...names];

/** Writes it to `folder`/model, and returns that path. `changes` are keys of its config.json. */
export async function wordModel(folder: string, changes: object = {}): Promise<string> {
  const path = join(folder, "model");
  const ids = { bos_token_id: 1, eos_token_id: 2, pad_token_id: 0 };
  const { config, parameters } = tinyModel({ vocab_size: words.length, ...ids, ...changes });
  await saveModel(path, { config, parameters, tokenizer: wordTokenizer(words, { special }) });
  disposeParameters(parameters);
  return path;
}

/** A question about each name, in two wordings; the answer is one of four places. */
export const questionLines: readonly string[] = names.flatMap((entity, i) => {
  const answers = [places[i % places.length]];
  return [`Where is ${entity} ?`, `is ${entity} here ?`].map((question) =>
    JSON.stringify({ question, answers, entity, relation: question.split(" ")[0] }),
  );
});
