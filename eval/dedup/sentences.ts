/** Sentence encoders as embedders, through @huggingface/transformers where it is installed. */
import { UserError } from "../../model/errors.ts";
import { type Embedder, normalise } from "./embed.ts";

/** What a feature-extraction pipeline does: mean of the tokens' vectors, of length 1, a row a text. */
export type Extractor = (
  texts: readonly string[],
  options: { readonly pooling: "mean"; readonly normalize: boolean },
) => Promise<{ readonly data: ArrayLike<number>; readonly dims: readonly number[] }>;

/** Texts that are encoded at a time. */
const BATCH = 64;
const PACKAGE = "@huggingface/transformers";

/**
 * The encoder of a name on the Hugging Face hub, or of a folder: "Xenova/all-MiniLM-L6-v2". The
 * package fetches its weights at first use. UserErrors: the package is missing, or it can't load the
 * model. (Contract as its documentation has it; not run here against the package itself.)
 */
export async function sentenceEmbedder(model: string): Promise<Embedder> {
  // A name in a variable: the types of a package that need not be there are not looked for.
  const name: string = PACKAGE;
  let library: { pipeline(task: string, model: string): Promise<Extractor> };
  try {
    library = await import(name);
  } catch (cause) {
    throw new UserError(`--encoder needs a package: npm install ${PACKAGE}`, { cause });
  }
  let extractor: Extractor;
  try {
    extractor = await library.pipeline("feature-extraction", model);
  } catch (cause) {
    throw new UserError(`cannot load ${model}: ${(cause as Error).message}`, { cause });
  }
  return extractorEmbedder(model, extractor);
}

/** An embedder of what a pipeline extracts. A UserError where it gives anything but a row a text. */
export async function extractorEmbedder(name: string, extractor: Extractor): Promise<Embedder> {
  const extract = async (texts: readonly string[], expected?: number) => {
    const { data, dims } = await extractor(texts, { pooling: "mean", normalize: true });
    const [rows, width] = dims;
    const isWhole = rows === texts.length && data.length === rows * (expected ?? width ?? 0);
    if (dims.length === 2 && isWhole) return { data, width: width! };
    const wanted = `[${texts.length} ${expected ?? "width"}]`;
    throw new UserError(`${name}: gave an array of shape [${dims.join(" ")}], expected ${wanted}`);
  };
  const { width } = await extract(["width"]);
  return {
    name,
    width,
    async embed(texts) {
      const out = new Float32Array(texts.length * width);
      for (let from = 0; from < texts.length; from += BATCH) {
        const { data } = await extract(texts.slice(from, from + BATCH), width);
        out.set(data, from * width);
      }
      for (let i = 0; i < texts.length; i++) normalise(out.subarray(i * width, (i + 1) * width));
      return out;
    },
  };
}
