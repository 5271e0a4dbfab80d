"""The tasks of the GPU benchmark in PyTorch, eager, TF32 off. Reads tasks as JSON, prints seconds."""

import json
import math
import sys
import time

import torch
import torch.nn.functional as F

if not torch.cuda.is_available():
    sys.exit(f"torch {torch.__version__} finds no CUDA device")
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.set_default_device("cuda")
WANTED = 0.3


def seconds_of(run):
    """Many calls between two looks at the clock, the best of three."""
    run()
    torch.cuda.synchronize()
    calls, best, taken = 1, math.inf, 0
    while taken < 3:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        torch.cuda.synchronize()
        wall = time.perf_counter() - start
        if wall < WANTED and calls < 512:
            calls = min(512, math.ceil(calls * max(2, WANTED / wall)))
            continue
        taken += 1
        best = min(best, wall / calls)
    return best


def positions_of(x, head):
    """Rotary position embedding of [b h t d]."""
    t, d = x.shape[-2:]
    inverse = 10000.0 ** (-torch.arange(0, d, 2) / d)
    angle = torch.outer(torch.arange(t), inverse)
    cos, sin = angle.cos(), angle.sin()
    first, second = x[..., : d // 2], x[..., d // 2 :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class Model(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        width, inner = size["width"], size["inner"]
        self.heads = size["heads"]
        matrix = lambda out, into: torch.nn.Parameter(torch.randn(out, into) * 0.02)
        self.embedding = matrix(size["vocabulary"], width)
        self.layers = torch.nn.ModuleList()
        for _ in range(size["layers"]):
            layer = torch.nn.Module()
            for name in ("q", "k", "v", "o"):
                setattr(layer, name, matrix(width, width))
            layer.gate, layer.up, layer.down = matrix(inner, width), matrix(inner, width), matrix(width, inner)
            layer.norm1, layer.norm2 = (torch.nn.Parameter(torch.ones(width)) for _ in range(2))
            self.layers.append(layer)
        self.norm = torch.nn.Parameter(torch.ones(width))

    def forward(self, tokens):
        b, t = tokens.shape
        x = F.embedding(tokens, self.embedding)
        split = lambda y: y.view(b, t, self.heads, -1).transpose(1, 2)
        for layer in self.layers:
            y = F.rms_norm(x, layer.norm1.shape, layer.norm1, 1e-6)
            q, k, v = (split(F.linear(y, w)) for w in (layer.q, layer.k, layer.v))
            q, k = positions_of(q, self.heads), positions_of(k, self.heads)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(y.transpose(1, 2).reshape(b, t, -1), layer.o)
            y = F.rms_norm(x, layer.norm2.shape, layer.norm2, 1e-6)
            x = x + F.linear(F.silu(F.linear(y, layer.gate)) * F.linear(y, layer.up), layer.down)
        return F.linear(F.rms_norm(x, self.norm.shape, self.norm, 1e-6), self.embedding)


def step(task):
    model = Model(task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(task["vocabulary"], (task["b"], task["t"] + 1))

    def run():
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item(), norm.item()

    return run


def call_of(task):
    kind = task["kind"]
    if kind == "gemm":
        dtype = torch.half if task["half"] else torch.float
        a, b = torch.randn(task["m"], task["k"], dtype=dtype), torch.randn(task["k"], task["n"], dtype=dtype)
        return lambda: a @ b
    if kind == "attention":
        shape = (task["b"], task["h"], task["t"], task["d"])
        q, k, v, g = (torch.randn(shape) for _ in range(4))
        forward = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
        if not task["backward"]:
            return forward
        inputs = [x.requires_grad_() for x in (q, k, v)]
        return lambda: torch.autograd.grad((forward() * g).sum(), inputs)
    if kind in ("rmsNorm", "softmax", "swiGlu"):
        x, y = torch.randn(task["rows"], task["n"]), torch.randn(task["rows"], task["n"])
        weight = torch.ones(task["n"])
        if kind == "rmsNorm":
            return lambda: F.rms_norm(x, weight.shape, weight, 1e-5)
        return (lambda: x.softmax(-1)) if kind == "softmax" else (lambda: F.silu(x) * y)
    if kind == "crossEntropy":
        x, targets = torch.randn(task["rows"], task["v"]), torch.arange(task["rows"])
        return lambda: F.cross_entropy(x, targets, reduction="none")
    if kind == "head":
        x = torch.randn(task["rows"], task["d"]).requires_grad_()
        weight = torch.randn(task["v"], task["d"]).requires_grad_()
        targets = torch.arange(task["rows"])
        loss = lambda: F.cross_entropy(F.linear(x, weight), targets, reduction="sum")
        return lambda: torch.autograd.grad(loss(), [x, weight])
    if kind == "adamW":
        weight = torch.nn.Parameter(torch.randn(task["n"]))
        weight.grad = torch.randn(task["n"])
        return torch.optim.AdamW([weight], lr=1e-3).step
    return step(task) if kind == "step" else None


seconds = []
for task in json.load(sys.stdin):
    grad = task["kind"] in ("step", "head") or task.get("backward", False)
    call = call_of(task)
    if call is None:
        seconds.append(None)  # eager decoding with a cache is a serving engine's work, not eager PyTorch's
        continue
    with torch.set_grad_enabled(grad):
        seconds.append(seconds_of(call))
    del call
    torch.cuda.empty_cache()
name = torch.cuda.get_device_name()
print(json.dumps({"version": f"torch {torch.__version__} on {name}, eager, TF32 off", "seconds": seconds}))
