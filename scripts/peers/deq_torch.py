"""The DEQ-Transformer in PyTorch, written for speed: what deq is compared with.

The same model as deq's: one Transformer-XL block with injection, weight norm, post-LN, tied full
softmax, segment memory, dropout masks that are constant over time and over a solve; implicit
gradient, by our own Broyden or by TorchDEQ's. What is constant in a solve (keys and values of the
memory, positions) is computed once, as deq does.
"""
import os
import resource

import torch
import torch.nn.functional as F
from torch import nn


def autocast(precision):
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def rss(peak):
    """Bytes of memory this process has, or has had at most."""
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def masked(x, mask):
    return x if mask is None else x * mask


class Block(nn.Module):
    """f(z; u): relative attention and feed-forward, each with a residual and a norm."""

    def __init__(self, width, heads, inner, dropout, std):
        super().__init__()
        self.width, self.heads, self.head, self.inner = width, heads, width // heads, inner
        self.dropout = dropout
        sizes = {"qkv": (3 * width, width), "r": (width, width), "o": (width, width),
                 "ff1": (inner, width), "ff2": (width, inner)}
        for name, size in sizes.items():
            v = nn.Parameter(std * torch.randn(size))
            self.register_parameter(name + "_v", v)
            self.register_parameter(name + "_g", nn.Parameter(v.detach().norm(dim=1, keepdim=True)))
        self.o_bias = nn.Parameter(torch.zeros(width))
        self.ff1_bias = nn.Parameter(torch.zeros(inner))
        self.ff2_bias = nn.Parameter(torch.zeros(width))
        self.r_w = nn.Parameter(std * torch.randn(heads, 1, self.head))
        self.r_r = nn.Parameter(std * torch.randn(heads, 1, self.head))
        self.inject = nn.Linear(width, 3 * width)
        nn.init.normal_(self.inject.weight, std=std)
        nn.init.zeros_(self.inject.bias)

    def weight(self, name):
        v, g = getattr(self, name + "_v"), getattr(self, name + "_g")
        return v * (g / v.norm(dim=1, keepdim=True))

    def split(self, x):
        """[B,T,D] to [B,H,T,h]."""
        b, t, _ = x.shape
        return x.view(b, t, self.heads, self.head).transpose(1, 2)

    def mask(self, *shape):
        """A dropout mask, or None where nothing is dropped."""
        if not self.training or self.dropout == 0:
            return None
        return torch.empty(shape).bernoulli_(1 - self.dropout).div_(1 - self.dropout)

    def begin(self, e, memory):
        """Everything that is constant in a solve, as a closure over it."""
        w = {name: self.weight(name) for name in ("qkv", "r", "o", "ff1", "ff2")}
        u = self.inject(e)
        batch, length, keys = e.shape[0], e.shape[1], e.shape[1]
        mem_k = mem_v = None
        if memory is not None:
            mem_z, mem_u = memory
            _, k, v = (F.linear(mem_z, w["qkv"]) + mem_u).chunk(3, dim=-1)
            mem_k, mem_v = self.split(k), self.split(v)
            keys += mem_z.shape[1]
        distance = torch.arange(keys - 1, -1, -1.0)
        angle = distance[:, None] * 10000 ** (-torch.arange(0, self.width, 2.0) / self.width)
        place_in = masked(torch.cat([angle.sin(), angle.cos()], 1), self.mask(1, self.width))
        rk = self.split(F.linear(place_in, w["r"])[None])
        future = torch.ones(length, keys, dtype=torch.bool).triu(1 + keys - length)
        drop_a, drop_f = self.mask(batch, 1, self.width), self.mask(batch, 1, self.width)
        drop_h = self.mask(batch, 1, self.inner)

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
            y = F.layer_norm(masked(F.linear(a, w["o"], self.o_bias), drop_a) + z, (self.width,))
            h = masked(F.relu(F.linear(y, w["ff1"], self.ff1_bias)), drop_h)
            h = masked(F.linear(h, w["ff2"], self.ff2_bias), drop_f)
            return F.layer_norm(h + y, (self.width,))

        return f, u


def broyden(f, z, first, evaluations, history=None):
    """Good Broyden for f(z) = z, rank-one terms per sequence; `first`: f(z) if it is known. The
    list `history` gets u and v [B,m,n] of the last inverse of I - J, which is I - sum u v^T."""
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
            if history is not None:
                history.extend((u[:, :k], v[:, :k]))
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
    """A language model; the attributes of `a` are

        peer               torch: our Broyden; torchdeq: TorchDEQ's
        vocab, width, heads, inner, memory (positions), dropout, std (of first weights)
        forward, backward  evaluations of f, and of its vector-Jacobian product; eval_forward: of f
                           in the mode eval()
        precision          fp32 or bf16, in which autocast was entered
    """

    def __init__(self, a):
        super().__init__()
        self.a = a
        self.table = nn.Parameter(a.std * torch.randn(a.vocab, a.width))
        self.bias = nn.Parameter(torch.zeros(a.vocab))
        self.block = Block(a.width, a.heads, a.inner, a.dropout, a.std)
        self.memory = None
        if a.peer == "torchdeq":
            from torchdeq import get_deq
            self.deq = get_deq(ift=True, f_solver="broyden", b_solver="broyden", f_tol=0.0,
                               b_tol=0.0, f_max_iter=a.forward - 1, b_max_iter=a.backward,
                               eval_f_max_iter=a.eval_forward - 1)

    def implicit(self, f, e):
        if self.a.peer == "torchdeq":
            def rounded(z):  # TorchDEQ's solvers leave autocast
                with autocast(self.a.precision):
                    return f(z)

            return self.deq(rounded, torch.zeros_like(e))[0][-1]
        evaluations = self.a.forward if self.training else self.a.eval_forward
        with torch.no_grad():
            z = broyden(f, torch.zeros_like(e), None, evaluations)
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

    def remember(self, z, u):
        """The last positions of each stream, for the segment that comes next."""
        now = z.detach(), u.detach()
        if self.memory is not None and z.shape[1] < self.a.memory:
            now = [torch.cat(pair, 1) for pair in zip(self.memory, now)]
        first = max(now[0].shape[1] - self.a.memory, 0)
        self.memory = [x[:, first:] for x in now] if self.a.memory > 0 else None

    def forward(self, tokens, target, layers=0):
        """Mean loss of a segment, with f unrolled so many times, or (0) at its equilibrium."""
        e = F.embedding(tokens, self.table) * self.a.width ** 0.5
        e = masked(e, self.block.mask(e.shape[0], 1, self.a.width))
        f, u = self.block.begin(e, self.memory)
        if layers > 0:
            z = torch.zeros_like(e)
            for _ in range(layers):
                z = f(z)
        else:
            z = self.implicit(f, e)
        self.remember(z, u)
        z = masked(z, self.block.mask(e.shape[0], 1, self.a.width))
        return F.cross_entropy(F.linear(z, self.table, self.bias).flatten(0, 1), target.flatten())
