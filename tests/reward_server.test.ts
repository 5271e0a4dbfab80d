/** The reward server: three engines' forms of request, bad ones refused by name, the command. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { describe, test } from "node:test";
import fc from "fast-check";
import { postJson } from "../eval/engines/http.ts";
import { aliasJudge } from "../eval/judge/alias.ts";
import { ruleAsync } from "../eval/judge/llm.ts";
import { UserError } from "../model/errors.ts";
import { readRequest } from "../rl/reward_requests.ts";
import { listen, type RewardServerOptions, rewardServer } from "../rl/reward_server.ts";
import { commandLine, runCommand } from "./support/command.ts";
import { scratchFolder } from "./support/disk.ts";

const { path: folder, fresh } = scratchFolder();
const faust = { id: "7", question: "who wrote Faust ?", answers: ["Goethe", "J. W. Goethe"] };

/** A server that listens, until the test is over. */
async function serving(changes: Partial<RewardServerOptions> = {}) {
  const server = rewardServer({
    ...{ judge: ruleAsync(aliasJudge), name: "alias", mostBytes: 10_000 },
    questions: new Map([[faust.id, faust]]),
    ...changes,
  });
  const url = await listen(server, 0, "127.0.0.1");
  const post = async (body: unknown, path = "/reward", method = "POST") => {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const response = await fetch(`${url}${path}`, {
      method,
      ...(method === "POST" && { body: text }),
    });
    // biome-ignore lint/suspicious/noExplicitAny: tests read what they expect in it
    const json = (await response.json()) as any;
    return { status: response.status, json, headers: response.headers };
  };
  const close = async () => {
    server.closeAllConnections?.();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url, post, [Symbol.asyncDispose]: close };
}

const paid = { score: 1, acc: 1, pred: "goethe", reason: "is the gold text" };

describe("a reward server", () => {
  test("pays answers by id and by text, in order", async () => {
    await using server = await serving();
    const { status, json } = await server.post({
      answers: [
        { id: "7", answer: " Goethe\n" },
        { id: 7, answer: "J. W. Goethe" },
        { question: "who ?", gold: "Bach", accepted: "J. S. Bach", answer: "j s bach" },
        { question: "who ?", gold: "Bach", answer: "Schiller" },
      ],
    });
    assert.equal(status, 200);
    assert.deepEqual(json.judgements[0], paid);
    assert.deepEqual(
      json.judgements.map(({ score }: { score: number }) => score),
      [1, 1, 1, 0],
    );
    const health = await server.post(undefined, "/health", "GET");
    const wanted = { status: "ok", reward: "alias", questions: 1, judged: 4, unjudged: 0 };
    assert.deepEqual([health.status, health.json], [200, wanted]);
  });

  test("pays verl's form, one or many, by its ground truth and aliases or by the id", async () => {
    await using server = await serving();
    const item = {
      ...{ data_source: "popqa", solution_str: "J. S. Bach", ground_truth: "Bach" },
      extra_info: { split: "train", index: 3, question: "who ?", aliases: ["J. S. Bach"] },
    };
    const one = await server.post(item);
    assert.deepEqual([one.json.score, one.json.acc, one.json.pred], [1, 1, "j s bach"]);
    const wrong = { ...item, solution_str: "Handel", extra_info: null };
    const many = await server.post({ items: [item, wrong] });
    assert.deepEqual(
      many.json.scores.map(({ score }: { score: number }) => score),
      [1, 0],
    );
    const known = { ...item, solution_str: "Goethe", extra_info: { id: "7" } };
    assert.deepEqual((await server.post([known])).json.scores[0], paid);
  });

  test("pays OpenRLHF's form: the answer is what follows the prompt, labels a text or JSON", async () => {
    await using server = await serving();
    const prompts = ["Q: who ? A:", "Q: who ? A:", "Q: who ? A:"];
    const query = [`${prompts[0]} Goethe`, `${prompts[1]} J. W. Goethe`, `${prompts[2]} Bach`];
    const labels = ["Goethe", '{"id": "7"}', '{"gold": "X", "accepted": ["Bach"]}'];
    const { json } = await server.post({ query, prompts, labels });
    assert.deepEqual([json.rewards, json.scores, json.extra_logs], [[1, 1, 1], [1, 1, 1], {}]);
    const short = await server.post({ query, prompts, labels: ["a"] });
    assert.deepEqual(
      [short.status, short.json.error],
      [422, "query, prompts and labels have 3, 3, 1 entries"],
    );
    const other = await server.post({ query: ["x"], prompts: ["y"], labels: [""] });
    assert.match(other.json.error, /entry 0: the query does not begin with its prompt/);
  });

  test("an answer without a verdict is null, or what the user set where only numbers will do", async () => {
    const silent = {
      judge: async (items: readonly unknown[]) =>
        items.map(() => ({
          score: null,
          correct: false,
          predicted: "",
          reason: "cut off",
          grade: null,
        })),
    };
    const request = { query: ["ab"], prompts: ["a"], labels: ["b"] };
    await using server = await serving(silent);
    const { json } = await server.post({ answers: [{ id: "7", answer: "x" }] });
    assert.deepEqual([json.judgements[0].score, json.judgements[0].acc], [null, null]);
    const refused = await server.post(request);
    assert.deepEqual([refused.status, refused.headers.get("retry-after")], [503, "5"]);
    assert.match(refused.json.error, /entry 0 has no verdict \(cut off\).*--null-score/);
    await using other = await serving({ ...silent, nullScore: 0.25 });
    assert.deepEqual((await other.post(request)).json.rewards, [0.25]);
  });

  test("refuses what it can't read, each in a sentence, and goes on", async () => {
    await using server = await serving();
    const cases: [unknown, number, RegExp][] = [
      ["{", 400, /the body is no JSON/],
      ["", 400, /no JSON/],
      ["3", 422, /no object and no list/],
      [{}, 422, /the body: "question": /],
      [{ answers: 3 }, 422, /"answers" is no list/],
      [{ answers: [{ id: "7", answer: "x" }, { id: "7" }] }, 422, /entry 1: "answer": /],
      [{ answers: [{ id: "9", answer: "x" }] }, 422, /entry 0: id "9": no such question/],
      [{ solution_str: 4, ground_truth: "x" }, 422, /"solution_str": /],
      [
        JSON.stringify({ answers: [{ id: "7", answer: "x".repeat(10_000) }] }),
        413,
        /at most 10000/,
      ],
    ];
    for (const [body, status, message] of cases) {
      const found = await server.post(body);
      assert.equal(found.status, status, JSON.stringify(body).slice(0, 80));
      assert.match(found.json.error, message);
    }
    const where = await server.post({}, "/rewards");
    assert.deepEqual(
      [where.status, where.json.error],
      [404, "there is no /rewards: POST /reward, GET /health"],
    );
    const how = await server.post(undefined, "/reward", "GET");
    assert.deepEqual([how.status, how.headers.get("allow")], [405, "POST"]);
    assert.equal((await server.post({ id: "7", answer: "Goethe" })).json.score, 1);
  });

  test("without questions says so, and survives a judge that is away and a client that hangs up", async () => {
    let away = true;
    const judge: RewardServerOptions["judge"] = async (items) => {
      if (away) throw new UserError("the judge m at http://x: nothing listens there");
      return ruleAsync(aliasJudge)(items);
    };
    await using server = await serving({ questions: new Map(), judge });
    const unknown = await server.post({ id: "7", answer: "x" });
    assert.match(unknown.json.error, /started without --data/);
    const item = { question: "q", gold: "Bach", answer: "bach" };
    const gone = await server.post(item);
    assert.deepEqual([gone.status, gone.headers.get("retry-after")], [503, "30"]);
    assert.match(gone.json.error, /nothing listens/);
    away = false;
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
    await once(socket, "connect");
    socket.write("POST /reward HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
    socket.destroy();
    assert.equal((await server.post(item)).json.score, 1);
  });

  test("no body at all makes it throw anything but a sentence with a status", () => {
    const options = { questions: new Map([[faust.id, faust]]) };
    fc.assert(
      fc.property(fc.jsonValue(), (body) => {
        try {
          readRequest(body, options);
        } catch (error) {
          assert.equal((error as Error).name, "RequestProblem");
        }
      }),
    );
  });
});

describe("the command", () => {
  test("serves a file of questions until it is told to stop", async () => {
    const data = `${fresh()}.jsonl`;
    writeFileSync(data, `${JSON.stringify(faust)}\n`);
    const child = spawn(
      process.execPath,
      commandLine("reward_server.ts", ["--data", data, "--port", "0"]),
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    try {
      let said = "";
      await new Promise<void>((resolve) => {
        child.stdout!.on("data", (part) => {
          said += part;
          if (said.includes("\n")) resolve();
        });
      });
      const [, url] = /reward alias, 1 questions, at (http:\S+) \(Ctrl-C stops\)/.exec(said)!;
      const reply = await postJson(url!, { id: "7", answer: "Goethe" }, { timeoutSeconds: 30 });
      assert.deepEqual(reply, paid);
      const ended = once(child, "close");
      child.kill("SIGINT");
      await ended;
      // Not the exit code: Deno tells the signal that it sent, whatever the child did with it.
      assert.match(said, /\nstopped\n$/);
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("names what it can't do", () => {
    for (const [args, message] of [
      [["--reward", "random"], /drawn by step and row/],
      [["--reward", "llm"], /needs judge\.url/],
      [["--data", "nowhere.jsonl"], /nowhere\.jsonl/],
      [["--port", "99999"], /--port/],
      [["--prot", "1"], /unknown flag --prot; did you mean --port\?/],
    ] as const) {
      const { code, text } = runCommand(folder, "reward_server.ts", args);
      assert.equal(code, 2, text);
      assert.match(text, message);
    }
    const { code, text } = runCommand(folder, "reward_server.ts", ["--help"]);
    assert.equal(code, 0);
    assert.match(text, /--null-score <number>/);
  });
});
