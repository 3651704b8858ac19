"""deq's modern cell in PyTorch, written for speed: what `deq bench train` is compared with.

Pre-norm blocks with RMSNorm, normalised and rotated queries and keys, SwiGLU and a gate for each
number; keys and values of the segment before as memory; a tied full softmax. Either an equilibrium,
f(z; e) = blocks(z + e) - z, solved and differentiated implicitly by Anderson's method, or the same
blocks once. Attention is scaled_dot_product_attention, and torch.compile fuses the rest.
"""
import torch
import torch.nn.functional as F
from torch import nn


def unit(x):
    return F.rms_norm(x, (x.shape[-1],), eps=1e-5)


class Blocks(nn.Module):
    """The blocks, with weights by their numbers. Gates are multiplied into the maps behind them
    once a step."""

    def __init__(self, count, width, heads, inner, std):
        super().__init__()
        self.count, self.heads, self.head = count, heads, width // heads
        sizes = {"qkv": (3 * width, width), "out": (width, width), "up": (2 * inner, width),
                 "down": (width, inner)}
        for name, size in sizes.items():
            setattr(self, name, nn.ParameterList(std * torch.randn(size) for _ in range(count)))
        for name in ("out_gate", "down_gate"):
            setattr(self, name, nn.ParameterList(torch.zeros(width) for _ in range(count)))

    def weights(self):
        """A list of four matrices a block, as evaluations take them."""
        gated = lambda gate, w: torch.sigmoid(gate)[:, None] * w
        return [w for i in range(self.count)
                for w in (self.qkv[i], gated(self.out_gate[i], self.out[i]), self.up[i],
                          gated(self.down_gate[i], self.down[i]))]


def turn(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


def split(x, head):
    """[B,T,D] to [B,H,T,h]."""
    return x.unflatten(-1, (-1, head)).transpose(1, 2)


def begin(memory, turns, head):
    """Keys and values of the memory as attention takes them, which are constant in a solve. memory
    holds [B,P,2D] a block."""
    ready = []
    for kv in memory:
        k, v = kv.chunk(2, -1)
        cos, sin = (t[:kv.shape[1]] for t in turns)
        ready.append((turn(unit(split(k, head)), cos, sin), split(v, head)))
    return ready


def blocks(h, weights, memory, turns, seen, head):
    """What the blocks make of h [B,L,D], and the keys and values [B,L,2D] that each one saw."""
    read = []
    for i, (mem_k, mem_v) in enumerate(memory):
        qkv, out, up, down = weights[4 * i:4 * i + 4]
        x = F.linear(unit(h), qkv)
        q, k, v = (split(t, head) for t in x.chunk(3, -1))
        read.append(x[..., h.shape[-1]:])
        past = mem_k.shape[2]
        cos, sin = (t[past:past + h.shape[1]] for t in turns)
        q, k = turn(unit(q), cos, sin), turn(unit(k), cos, sin)
        k, v = torch.cat((mem_k, k), 2), torch.cat((mem_v, v), 2)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        h = h + F.linear(a.transpose(1, 2).flatten(2), out)
        gate, value = F.linear(unit(h), up).chunk(2, -1)
        h = h + F.linear(F.silu(gate) * value, down)
    return h, read


def anderson(f, z, evaluations, history):
    """Anderson's method for f(z) = z with one set of weights a sequence. Returns the last iterate's
    f, and needs `evaluations` of it."""
    batch = z.shape[0]
    ridge = 1e-6 * torch.eye(history)
    xs, fs = [], []
    for k in range(evaluations):
        fz = f(z)
        xs, fs = (xs + [z])[-history:], (fs + [fz])[-history:]
        if k + 1 == evaluations:
            return fz
        n = len(xs)
        if n == 1:
            z = fz
            continue
        stacked = torch.stack([b.reshape(batch, -1) for b in fs], 1)
        g = stacked - torch.stack([a.reshape(batch, -1) for a in xs], 1)
        gram = torch.bmm(g, g.transpose(1, 2))
        scale = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        alpha = torch.linalg.solve(gram / scale + ridge[:n, :n], torch.ones(batch, n))
        alpha = alpha / alpha.sum(1, keepdim=True)
        z = torch.bmm(alpha[:, None], stacked).view_as(z)


class Modern(nn.Module):
    """A language model, which wants PyTorch 2.4. The attributes of `a` are those of deq_torch.Model, and

        batch, length  size of a segment. `memory` is at most the length
        blocks      number of blocks
        explicit    whether they run once, in place of a solve
        compiled    whether torch.compile is used
    """

    def __init__(self, a):
        super().__init__()
        self.a = a
        self.table = nn.Parameter(a.std * torch.randn(a.vocab, a.width))
        self.bias = nn.Parameter(torch.zeros(a.vocab))
        self.blocks = Blocks(a.blocks, a.width, a.heads, a.inner, a.std)
        head = a.width // a.heads
        angle = (torch.arange(a.memory + a.length)[:, None] *
                 10000 ** (-torch.arange(head // 2) / (head // 2)))
        self.turns = angle.cos(), angle.sin()
        # Of whole memory and segment. Without memory the last columns are those of the segment.
        back = torch.arange(a.memory, a.memory + a.length)[:, None] - torch.arange(a.memory + a.length)
        self.seen = back >= 0
        self.memory = [torch.zeros(a.batch, 0, 2 * a.width) for _ in range(a.blocks)]
        if a.compiled and not a.explicit:
            # The solve of the gradient goes through the same graph several times.
            from torch._functorch import config
            config.donated_buffer = False
        self.run = torch.compile(blocks) if a.compiled else blocks
        self.begin = torch.compile(begin) if a.compiled else begin

    def evaluate(self, e, weights):
        """The fixed point's f, and what the blocks read there."""
        head = self.a.width // self.a.heads
        past = self.memory[0].shape[1]
        seen = self.seen[:, self.a.memory - past:]
        with torch.no_grad():
            memory = self.begin(self.memory, self.turns, head)
        whole = lambda z: self.run(z + e, weights, memory, self.turns, seen, head)
        if self.a.explicit:
            return self.run(e, weights, memory, self.turns, seen, head)
        with torch.no_grad():
            z = anderson(lambda z: whole(z)[0] - z, torch.zeros_like(e), self.a.forward, 5)
        if not torch.is_grad_enabled():
            return whole(z)[0] - z, whole(z)[1]
        z.requires_grad_()
        h, read = whole(z)
        out = h - z

        def adjoint(grad):
            handle.remove()
            vjp = lambda y: torch.autograd.grad(out, z, y, retain_graph=True)[0] + grad
            return anderson(vjp, grad, self.a.backward, 3)

        handle = out.register_hook(adjoint)
        return out, read

    def forward(self, tokens, target, _=0):
        e = unit(F.embedding(tokens, self.table) * self.a.width ** 0.5)
        out, read = self.evaluate(e, self.blocks.weights())
        self.memory = [r.detach()[:, r.shape[1] - self.a.memory:] for r in read]
        logits = F.linear(unit(out), self.table, self.bias)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten())
