/** The name of the model that a server has, for whoever gave its address alone. */

import { UserError } from "../../model/errors.ts";
import { excerpt } from "./http.ts";
import { CallFailure } from "./retry.ts";
import { openServer, type ServerOptions } from "./server.ts";

/**
 * The one model that `GET /v1/models` names. Throws a UserError where there are several, with their
 * names and with `setting`, which chooses among them.
 */
export async function servedModel(
  what: string,
  setting: string,
  options: ServerOptions,
): Promise<string> {
  const server = openServer(what, { timeoutSeconds: 60, ...options });
  const names = await server.get("/v1/models", (answer) => {
    const { data } = (answer ?? {}) as { data?: unknown };
    if (!Array.isArray(data)) {
      throw new CallFailure("nonsense", `no list of models: ${excerpt(JSON.stringify(answer))}`);
    }
    return data.map((model: { id?: unknown } | null) => model?.id);
  });
  const [name] = names;
  if (names.length === 1 && typeof name === "string" && name !== "") return name;
  const shown = names.length === 0 ? "no model" : `${names.length} models: ${names.slice(0, 8)}`;
  throw new UserError(`${what} at ${server.url} has ${shown}; name the one to ask with ${setting}`);
}
