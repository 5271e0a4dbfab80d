/** reward.py of an export: a few lines of Python that ask the reward server, and no rule of their own. */

const CALL = `import json
import os
import time
import urllib.error
import urllib.request

URL = os.environ.get("ANAMNESIS_REWARD_URL", "http://127.0.0.1:8088/reward")
NULL_SCORE = os.environ.get("ANAMNESIS_NULL_SCORE")
TRIES = 6
# The server is a neighbour: no proxy stands between.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(items):
    """The server's record of each answer. It is asked again while it is down or its judge is."""
    body = json.dumps({"items": items}).encode()
    request = urllib.request.Request(URL, body, {"content-type": "application/json"})
    for attempt in range(TRIES):
        try:
            with OPENER.open(request, timeout=600) as reply:
                return json.load(reply)["scores"]
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.read().decode(errors='replace')}"
            if error.code not in (429, 500, 502, 503, 504):
                break
        except (OSError, ValueError) as error:
            problem = str(error)
        if attempt + 1 < TRIES:
            time.sleep(float(os.environ.get("ANAMNESIS_RETRY_SECONDS", "1")) * 2**attempt)
    raise RuntimeError(f"no reward from {URL}: {problem}")


def paid(record):
    """No verdict is an error, never a silent 0: set ANAMNESIS_NULL_SCORE to pay a number for it."""
    if record["score"] is not None:
        return float(record["score"])
    if NULL_SCORE is None:
        raise RuntimeError(f"an answer has no verdict: {record['reason']}")
    return float(NULL_SCORE)
`;

export const verlReward = `"""Rewards of an anamnesis run for verl: its reward server pays, this file asks it."""

${CALL}

def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    info = extra_info or {}
    aliases = [str(one) for one in info.get("aliases", [])]
    own = {"question": str(info.get("question", "")), "aliases": aliases}
    item = {"data_source": str(data_source), "solution_str": solution_str, "extra_info": own}
    (record,) = ask([{**item, "ground_truth": str(ground_truth)}])
    score = paid(record)
    acc = score if record["acc"] is None else float(record["acc"])
    return {"score": score, "acc": acc, "pred": str(record["pred"])}
`;

export const trlReward = `"""Rewards of an anamnesis run for TRL: its reward server pays, this file asks it."""

${CALL}

def reward(completions, question, solution, aliases, **_):
    items = [
        {"question": asked, "gold": gold, "accepted": list(others), "answer": words(completion)}
        for completion, asked, gold, others in zip(completions, question, solution, aliases)
    ]
    return [paid(record) for record in ask(items)]


def words(completion):
    """A completion is text, or a list of messages of which the last one is the answer."""
    return completion if isinstance(completion, str) else completion[-1]["content"]
`;
