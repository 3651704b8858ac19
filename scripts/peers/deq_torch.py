#!/usr/bin/env python3
"""The DEQ-Transformer in PyTorch, written for speed: what deq is compared with.

The same model, batch and optimiser as `deq bench train`: one Transformer-XL block with injection,
weight norm, post-LN, tied full softmax, segment memory, Adam, clipping by the global norm; implicit
gradient, by our own Broyden or by TorchDEQ's. What is constant in a solve (keys and values of the
memory, positions) is computed once, as deq does. Prints one JSON object.

    deq_torch.py --peer torch|torchdeq --mode train|unroll|eval [--steps N] [--threads N]
"""
import argparse
import json
import os
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """f(z; u): relative attention and feed-forward, each with a residual and a norm."""

    def __init__(self, width, heads, inner):
        super().__init__()
        self.width, self.heads, self.head = width, heads, width // heads
        sizes = {"qkv": (3 * width, width), "r": (width, width), "o": (width, width),
                 "ff1": (inner, width), "ff2": (width, inner)}
        for name, size in sizes.items():
            v = nn.Parameter(0.05 * torch.randn(size))
            self.register_parameter(name + "_v", v)
            self.register_parameter(name + "_g", nn.Parameter(v.detach().norm(dim=1, keepdim=True)))
        self.o_bias = nn.Parameter(torch.zeros(width))
        self.ff1_bias = nn.Parameter(torch.zeros(inner))
        self.ff2_bias = nn.Parameter(torch.zeros(width))
        self.r_w = nn.Parameter(0.05 * torch.randn(heads, 1, self.head))
        self.r_r = nn.Parameter(0.05 * torch.randn(heads, 1, self.head))
        self.inject = nn.Linear(width, 3 * width)
        nn.init.normal_(self.inject.weight, std=0.05)
        nn.init.zeros_(self.inject.bias)

    def weight(self, name):
        v, g = getattr(self, name + "_v"), getattr(self, name + "_g")
        return v * (g / v.norm(dim=1, keepdim=True))

    def split(self, x):
        """[B,T,D] to [B,H,T,h]."""
        b, t, _ = x.shape
        return x.view(b, t, self.heads, self.head).transpose(1, 2)

    def begin(self, e, memory):
        """Everything that is constant in a solve, as a closure over it."""
        w = {name: self.weight(name) for name in ("qkv", "r", "o", "ff1", "ff2")}
        u = self.inject(e)
        length, keys = e.shape[1], e.shape[1]
        mem_k = mem_v = None
        if memory is not None:
            mem_z, mem_u = memory
            _, k, v = (F.linear(mem_z, w["qkv"]) + mem_u).chunk(3, dim=-1)
            mem_k, mem_v = self.split(k), self.split(v)
            keys += mem_z.shape[1]
        distance = torch.arange(keys - 1, -1, -1.0)
        angle = distance[:, None] * 10000 ** (-torch.arange(0, self.width, 2.0) / self.width)
        rk = self.split(F.linear(torch.cat([angle.sin(), angle.cos()], 1), w["r"])[None])
        future = torch.ones(length, keys, dtype=torch.bool).triu(1 + keys - length)

        def f(z):
            q, k, v = (F.linear(z, w["qkv"]) + u).chunk(3, dim=-1)
            q, k, v = self.split(q), self.split(k), self.split(v)
            if mem_k is not None:
                k, v = torch.cat([mem_k, k], 2), torch.cat([mem_v, v], 2)
            place = torch.matmul(q + self.r_r, rk.transpose(2, 3))
            # row i moves left by L-1-i: a pad and a change of shape
            place = F.pad(place, (1, 0)).flatten(2)[..., length:].view_as(place)
            score = torch.matmul(q + self.r_w, k.transpose(2, 3)) + place
            score = score.mul(self.head ** -0.5).masked_fill(future, float("-inf"))
            a = torch.matmul(score.softmax(-1), v).transpose(1, 2).flatten(2)
            y = F.layer_norm(F.linear(a, w["o"], self.o_bias) + z, (self.width,))
            h = F.relu(F.linear(y, w["ff1"], self.ff1_bias))
            return F.layer_norm(F.linear(h, w["ff2"], self.ff2_bias) + y, (self.width,))

        return f, u


def broyden(f, z, first, evaluations):
    """Good Broyden for f(z) = z, rank-one terms per sequence; `first`: f(z) if it is known."""
    shape, batch = z.shape, z.shape[0]
    x = z.reshape(batch, -1)

    def residual(x):
        return f(x.view(shape)).reshape(batch, -1) - x

    g = residual(x) if first is None else first.reshape(batch, -1) - x
    count = evaluations - (first is None)
    u = x.new_empty(batch, count, x.shape[1])
    v = x.new_empty(batch, count, x.shape[1])
    step, best, lowest = g, x, g.norm()
    for k in range(count):
        x = x + step
        g_new = residual(x)
        if g_new.norm() < lowest:
            best, lowest = x, g_new.norm()
        if k + 1 == count:
            break
        dg, g = g_new - g, g_new
        us, vs = u[:, :k], v[:, :k]
        v_k = torch.baddbmm(-step[:, None], torch.bmm(step[:, None], us.transpose(1, 2)), vs)[:, 0]
        b_dg = -dg + torch.bmm(torch.bmm(dg[:, None], vs.transpose(1, 2)), us)[:, 0]
        u[:, k] = (step - b_dg) / (v_k * dg).sum(1, keepdim=True)
        v[:, k] = v_k
        us, vs = u[:, :k + 1], v[:, :k + 1]
        step = g - torch.bmm(torch.bmm(g[:, None], vs.transpose(1, 2)), us)[:, 0]
    return best.view(shape)


class Model(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.a = a
        self.table = nn.Parameter(0.05 * torch.randn(a.vocab, a.width))
        self.bias = nn.Parameter(torch.zeros(a.vocab))
        self.block = Block(a.width, a.heads, a.inner)
        self.memory = None
        if a.peer == "torchdeq":
            from torchdeq import get_deq
            self.deq = get_deq(ift=True, f_solver="broyden", b_solver="broyden", f_tol=0.0,
                               b_tol=0.0, f_max_iter=a.forward - 1, b_max_iter=a.backward)

    def implicit(self, f, e):
        if self.a.peer == "torchdeq":
            def rounded(z):  # TorchDEQ's solvers leave autocast
                with torch.autocast("cpu", torch.bfloat16, enabled=self.a.precision == "bf16"):
                    return f(z)

            return self.deq(rounded, torch.zeros_like(e))[0][-1]
        with torch.no_grad():
            z = broyden(f, torch.zeros_like(e), None, self.a.forward)
        if not torch.is_grad_enabled():
            return z
        z = z.requires_grad_()
        out = f(z)

        def adjoint(grad):
            handle.remove()
            vjp = lambda y: torch.autograd.grad(out, z, y, retain_graph=True)[0] + grad
            return broyden(vjp, torch.zeros_like(grad), grad, self.a.backward)

        handle = out.register_hook(adjoint)
        return out

    def forward(self, tokens, target):
        e = F.embedding(tokens, self.table) * self.a.width ** 0.5
        f, u = self.block.begin(e, self.memory)
        if self.a.mode == "unroll":
            z = torch.zeros_like(e)
            for _ in range(self.a.layers):
                z = f(z)
        else:
            z = self.implicit(f, e)
        self.memory = z.detach(), u.detach()
        return F.cross_entropy(F.linear(z, self.table, self.bias).flatten(0, 1), target.flatten())


def rss(peak):
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--peer", choices=["torch", "torchdeq"], default="torch")
    p.add_argument("--mode", choices=["train", "unroll", "eval"], default="train")
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    for name, value in {"steps": 10, "warm": 3, "threads": 0, "width": 256, "heads": 8,
                        "inner": 1024, "vocab": 10000, "batch": 8, "length": 64, "forward": 13,
                        "backward": 12, "layers": 12}.items():
        p.add_argument("--" + name, type=int, default=value)
    a = p.parse_args()
    if a.threads > 0:
        torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = Model(a)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before, times = rss(False), []
    for i in range(a.warm + a.steps):
        # frequencies fall like 1 / rank
        draw = (a.vocab ** torch.rand(2, a.batch, a.length)).long().clamp_(max=a.vocab) - 1
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=a.precision == "bf16"), \
                torch.set_grad_enabled(a.mode != "eval"):
            loss = model(draw[0], draw[1])
        if a.mode != "eval":
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            optimizer.step()
        loss.item()
        if i >= a.warm:
            times.append(time.perf_counter() - start)
    print(json.dumps({"peer": a.peer, "mode": a.mode, "torch": torch.__version__,
                      "threads": torch.get_num_threads(), "loss": float(loss.detach()),
                      "step_seconds": statistics.median(times),
                      "tokens_per_s": a.batch * a.length / statistics.median(times),
                      "peak_bytes": rss(True) - before}))


if __name__ == "__main__":
    main()
