/** The models that a server says it has: the only one, or one by its name with its longest context. */

import { UserError } from "../../model/errors.ts";
import { excerpt } from "./http.ts";
import { CallFailure } from "./retry.ts";
import { openServer, type ServerOptions } from "./server.ts";

export interface ServedModel {
  readonly name: string;
  /** A LoRA adapter, on another model of the list. */
  readonly isAdapter: boolean;
  /** Tokens of a prompt and its answer, as vLLM and SGLang say them; undefined where a server doesn't. */
  readonly longest: number | undefined;
}

interface Card {
  readonly id?: unknown;
  readonly parent?: unknown;
  readonly max_model_len?: unknown;
}

/** `GET /v1/models`. */
function servedModels(what: string, options: ServerOptions) {
  const server = openServer(what, { timeoutSeconds: 60, ...options });
  const models = server.get("/v1/models", (answer) => {
    const { data } = (answer ?? {}) as { data?: unknown };
    if (!Array.isArray(data)) {
      throw new CallFailure("nonsense", `no list of models: ${excerpt(JSON.stringify(answer))}`);
    }
    return data.map((card: Card | null): ServedModel => {
      const { id, parent, max_model_len: longest } = card ?? {};
      return {
        ...{ name: typeof id === "string" ? id : "", isAdapter: typeof parent === "string" },
        longest: typeof longest === "number" ? longest : undefined,
      };
    });
  });
  return { url: server.url, models };
}

const listed = (models: readonly ServedModel[]): string =>
  `${models.slice(0, 8).map(({ name }) => name)}`;

/**
 * The name of the one model that a server has. Throws a UserError where there are several, with their
 * names and with `setting`, which chooses among them.
 */
export async function servedModel(
  what: string,
  setting: string,
  options: ServerOptions,
): Promise<string> {
  const { url, models: asked } = servedModels(what, options);
  const models = await asked;
  const [first] = models;
  if (models.length === 1 && first!.name !== "") return first!.name;
  const shown = models.length === 0 ? "no model" : `${models.length} models: ${listed(models)}`;
  throw new UserError(`${what} at ${url} has ${shown}; name the one to ask with ${setting}`);
}

/**
 * The model called `wanted`, or without one the first that is no adapter: an engine has one, perhaps
 * under several names. Throws a UserError with what there is where it is not among them.
 */
export async function servedBase(
  what: string,
  options: ServerOptions,
  wanted?: string,
): Promise<ServedModel> {
  const { url, models: asked } = servedModels(what, options);
  const models = (await asked).filter(({ isAdapter }) => !isAdapter);
  const found = models.find(({ name }) => wanted === undefined || name === wanted);
  if (found !== undefined) return found;
  const shown = models.length === 0 ? "none" : listed(models);
  throw new UserError(`${what} at ${url} has no model ${wanted ?? "to adapt"}; it serves ${shown}`);
}
