"""A rival: PyTorch on the CPU, eager, behind the benchmark's line protocol (see protocol.ts)."""
# Argument: threads. Written as a user of PyTorch would write it; what newer versions have built in
# (scaled_dot_product_attention, rms_norm) is used where it is there.

import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

COTANGENT, NORM_EPS, MODEL_NORM_EPS, ROPE_THETA = 9, 1e-5, 1e-6, 10000.0
CHECKED_STEPS, CHECKED_ROWS, SHORTEST = 3, 8, 0.5


def random_input(shape, salt):
    """input() of tasks.ts."""
    u = np.arange(1, math.prod(shape) + 1, dtype=np.uint32)
    u = (u + np.uint32(salt * 0x3504F335 % 2**32)) * np.uint32(0x9E3779B1)
    u = (u ^ (u >> np.uint32(15))) * np.uint32(0x85EBCA77)
    u = u ^ (u >> np.uint32(13))
    values = (u >> np.uint32(8)).astype(np.float32) / np.float32(2**24) - np.float32(0.5)
    return torch.from_numpy(values.reshape(shape))


def samples_of(t):
    flat = t.detach().reshape(-1)
    return [flat[i * flat.numel() // 16].item() for i in range(16)]


def rms_norm(x, weight, eps):
    if hasattr(F, "rms_norm"):
        return F.rms_norm(x, weight.shape, weight, eps)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def causal_attention(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    t = q.shape[-2]
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    hidden = torch.ones(t, t, dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -math.inf).softmax(-1) @ v


def gemm(task):
    m, k, n, transpose = task["m"], task["k"], task["n"], task["transpose"]
    a = random_input([k, m] if transpose == "TN" else [m, k], 1)
    b = random_input([n, k] if transpose == "NT" else [k, n], 2)

    def run():
        return (a.t() if transpose == "TN" else a) @ (b.t() if transpose == "NT" else b)

    return torch.inference_mode()(run), lambda: samples_of(run())


def op(task):
    shape, name, backward = task["shape"], task["op"], task["backward"]
    row = [shape[-1]]
    shapes = {
        "softmax": [shape],
        "rmsNorm": [shape, row],
        "layerNorm": [shape, row, row],
        "attention": [shape, shape, shape],
    }[name]
    inputs = [random_input(s, i + 1).requires_grad_(backward) for i, s in enumerate(shapes)]
    cotangent = random_input(shape, COTANGENT)
    forward = {
        "softmax": lambda x: x.softmax(-1),
        "rmsNorm": lambda x, w: rms_norm(x, w, NORM_EPS),
        "layerNorm": lambda x, w, b: F.layer_norm(x, w.shape, w, b, NORM_EPS),
        "attention": causal_attention,
    }[name]

    def run():
        out = forward(*inputs)
        return torch.autograd.grad(out, inputs, cotangent) if backward else [out]

    check = lambda: [x for t in run() for x in samples_of(t)]
    return (run if backward else torch.inference_mode()(run)), check


class Model:
    """The transformer of model/transformer.ts: RMSNorm, rotary positions, SwiGLU, untied head."""

    def __init__(self, task, train):
        self.heads, self.depth = task["heads"], task["depth"]
        flat = torch.from_numpy(np.fromfile(task["file"], dtype=np.float32))
        self.weights, at = {}, 0
        for name, shape in task["weights"]:
            size = math.prod(shape)
            weight = flat[at : at + size].reshape(shape).clone()
            self.weights[name] = weight.requires_grad_(train)
            at += size
        half = task["width"] // self.heads // 2
        angles = torch.outer(torch.arange(128.0), ROPE_THETA ** (-torch.arange(half) / half))
        self.cos, self.sin = angles.cos(), angles.sin()

    def linear(self, x, name):
        return F.linear(x, self.weights[name + ".weight"])

    def norm(self, x, name):
        return rms_norm(x, self.weights[name + ".weight"], MODEL_NORM_EPS)

    def rope(self, x, start):
        t = x.shape[-2]
        cos, sin = self.cos[start : start + t], self.sin[start : start + t]
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def hidden(self, tokens, start=0, cache=None):
        b, t = tokens.shape
        x = F.embedding(tokens, self.weights["model.embed_tokens.weight"])
        for layer in range(self.depth):
            name = f"model.layers.{layer}"
            y = self.norm(x, name + ".input_layernorm")
            split = lambda part: self.linear(y, f"{name}.self_attn.{part}_proj").view(
                b, t, self.heads, -1
            ).transpose(1, 2)
            q, k, v = self.rope(split("q"), start), self.rope(split("k"), start), split("v")
            if cache is None:
                mixed = causal_attention(q, k, v)
            else:
                mixed = self.cached_attention(cache[layer], q, k, v, start)
            mixed = mixed.transpose(1, 2).reshape(b, t, -1)
            x = x + self.linear(mixed, name + ".self_attn.o_proj")
            y = self.norm(x, name + ".post_attention_layernorm")
            gate, up = self.linear(y, name + ".mlp.gate_proj"), self.linear(y, name + ".mlp.up_proj")
            x = x + self.linear(F.silu(gate) * up, name + ".mlp.down_proj")
        return self.norm(x, "model.norm")

    def cached_attention(self, cache, q, k, v, start):
        """One new position attends to all that the static cache holds; a prompt to itself."""
        keys, values = cache
        end = start + q.shape[-2]
        keys[:, :, start:end] = k
        values[:, :, start:end] = v
        if start == 0:
            return causal_attention(q, k, v)
        keys, values = keys[:, :, :end], values[:, :, :end]
        if hasattr(F, "scaled_dot_product_attention"):
            return F.scaled_dot_product_attention(q, keys, values)
        scores = q @ keys.transpose(-2, -1) / math.sqrt(q.shape[-1])
        return scores.softmax(-1) @ values

    def logits(self, states):
        return self.linear(states, "lm_head")


def step(task):
    model = Model(task, True)
    tokens = torch.tensor(task["tokens"]).reshape(task["rows"], task["positions"])
    targets = torch.tensor(task["targets"])
    weights = list(model.weights.values())
    decay = [{"params": [w for w in weights if w.dim() == 2], "weight_decay": 0.01}]
    plain = [{"params": [w for w in weights if w.dim() == 1], "weight_decay": 0.0}]
    options = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
    if "foreach" in torch.optim.AdamW.__init__.__code__.co_varnames:
        options["foreach"] = True
    optimizer = torch.optim.AdamW(decay + plain, **options)

    def run():
        optimizer.zero_grad(set_to_none=True)
        logits = model.logits(model.hidden(tokens))
        loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), targets)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        norm.item()
        return loss.item()

    return run, lambda: [run() for _ in range(CHECKED_STEPS)]


def decode(task):
    model, new = Model(task, False), task["newTokens"]
    prompts = torch.tensor(task["prompts"])
    width = task["width"] // task["heads"]

    @torch.inference_mode()
    def run(rows=len(task["prompts"]), greedy=False):
        tokens, length = prompts[:rows], prompts.shape[1]
        shape = [rows, task["heads"], length + new, width]
        cache = [(torch.empty(shape), torch.empty(shape)) for _ in range(task["depth"])]
        states = model.hidden(tokens, 0, cache)[:, -1]
        drawn, log_probs = [], []
        for position in range(length, length + new):
            scores = F.log_softmax(model.logits(states), -1)
            if greedy:
                tokens = scores.argmax(-1, keepdim=True)
            else:
                tokens = torch.multinomial(scores.exp(), 1)
            drawn.append(tokens)
            log_probs.append(scores.gather(-1, tokens))
            if position + 1 < length + new:
                states = model.hidden(tokens, position, cache)[:, -1]
        return torch.cat(drawn, -1), torch.cat(log_probs, -1)

    return run, lambda: run(CHECKED_ROWS, True)[0].reshape(-1).tolist()


def timed(run, budget):
    """timed() of protocol.ts."""

    def once(group):
        start = time.perf_counter()
        for _ in range(group):
            run()
        return 1000 * (time.perf_counter() - start) / group

    first = [once(1)]
    while len(first) < 3 and sum(first) < budget / 10:
        first.append(once(1))
    shortest = min(first)
    if shortest > budget:
        return shortest
    group = max(1, math.ceil(SHORTEST / max(shortest, 1e-4)))
    samples, end = [], time.perf_counter() + budget / 1000
    while not samples or time.perf_counter() < end:
        samples.append(once(group))
    return sorted(samples)[len(samples) // 2]


def reply(value):
    print("@" + json.dumps(value), flush=True)


def main():
    threads = int(sys.argv[1])
    torch.set_num_threads(threads)
    reply({"version": torch.__version__, "threads": torch.get_num_threads()})
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                task = request["prepare"]
                run, check = {"gemm": gemm, "op": op, "step": step, "decode": decode}[
                    task["kind"]
                ](task)
                reply({"check": check()})
            elif "time" in request:
                reply({"ms": timed(run, request["time"])})
            else:
                run = None
                reply({})
        except Exception as error:
            reply({"cannot": str(error).split("\n")[0][:160]})


main()
