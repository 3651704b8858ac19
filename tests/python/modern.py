"""The modern cell in PyTorch, as plainly as its equations are (src/cell/modern/modern_cell.h), and
dumps of it that `deq verify` compares with this program's own numbers.

    modern.py FOLDER [NAME]...

Every case of CASES becomes FOLDER/modern_NAME.safetensors, in float64.
"""
import json
import math
import os
import sys

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, silu

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

BATCH, LENGTH, MEMORY, VOCAB, SEGMENTS = 2, 5, 4, 11, 2
DEFAULTS = dict(cell="modern", d_model=8, n_head=2, d_inner=12, norm="rms", wnorm=False, compat=False,
                blocks=1, layers=0, tie_layers=True, n_kv_head=0, d_head=0, qk_norm=True,
                rope_base=10000.0, ffn="swiglu", norm_place="pre", gate="channel", prelude=0, coda=0,
                inject="add", outer_norm=False, local_size=0)
# name: (kind, applications of f, other settings)
CASES = {
    "plain": ("deq", 0, {}),
    "blocks": ("deq", 0, dict(blocks=3)),
    "layer_norm": ("deq", 0, dict(norm="layer", qk_norm=False)),
    "grouped": ("deq", 0, dict(n_head=4, n_kv_head=2, d_head=4)),
    "relu2": ("deq", 0, dict(ffn="relu2", rope_base=0.0)),
    "relu": ("deq", 0, dict(ffn="relu", rope_base=100.0)),
    "scalar_gate": ("deq", 0, dict(gate="scalar", wnorm=True)),
    "no_gate": ("unrolled", 3, dict(gate="none", wnorm=True)),
    "around": ("deq", 0, dict(prelude=2, coda=2, blocks=2)),
    "around_post": ("deq", 0, dict(prelude=1, coda=1, norm_place="post")),
    "post": ("deq", 0, dict(norm_place="post", blocks=2)),
    "sandwich_linear": ("deq", 0, dict(norm_place="sandwich", inject="linear", prelude=1)),
    "post_linear": ("deq", 0, dict(norm_place="post", inject="linear")),
    "decay": ("unrolled", 3, dict(inject="decay", blocks=2)),
    "decay_outer": ("deq", 0, dict(inject="decay", outer_norm=True)),
    "outer_norm": ("deq", 0, dict(outer_norm=True, blocks=2)),
    "inject_v": ("unrolled", 2, dict(inject="v", n_kv_head=1)),
    "inject_qkv": ("unrolled", 2, dict(inject="qkv", blocks=2)),
    "inject_qkv_post": ("unrolled", 2, dict(inject="qkv", norm_place="post")),
    "local": ("deq", 0, dict(local_size=3, d_head=6)),
    "layers": ("unrolled", 1, dict(layers=3, tie_layers=False)),
    "penalty": ("jacreg", 0, dict(blocks=2)),
    "penalty_post": ("jacreg", 0, dict(norm_place="post", ffn="relu2", inject="linear")),
}


def inverse_logistic(p):
    return math.log(p / (1 - p))


class Modern:
    """One model: weights by their names, the segments' memory, and f."""

    def __init__(self, settings, seed):
        self.c = c = dict(DEFAULTS, **settings)
        c["d_head"] = c["d_head"] or c["d_model"] // c["n_head"]
        c["n_kv_head"] = c["n_kv_head"] or c["n_head"]
        self.random = torch.Generator().manual_seed(seed)
        self.w = {}
        core = c["layers"] if c["layers"] > 0 else c["blocks"]
        self.names = ([f"prelude.{i}." for i in range(c["prelude"])] +
                      [f"func.blocks.{i}." for i in range(core)] +
                      [f"coda.{i}." for i in range(c["coda"])])
        self.first, self.core = c["prelude"], core
        self.memory = {name: None for name in self.names}
        self.make_weights()

    def new(self, name, *shape, std=0.25, mean=0.0):
        values = mean + std * torch.randn(*shape, generator=self.random)
        self.w[name] = values.requires_grad_(True)

    def make_matrix(self, name, rows, cols):
        if not self.c["wnorm"]:
            return self.new(name, rows, cols)
        self.new(name + "_v", rows, cols)
        self.new(name + "_g", rows, std=0.1, mean=0.6)

    def make_weights(self):
        c, d = self.c, self.c["d_model"]
        a, kv = c["n_head"] * c["d_head"], c["n_kv_head"] * c["d_head"]
        self.new("word_emb.emb_layers.0.weight", VOCAB, d)
        self.new("crit.out_layers.0.bias", VOCAB)
        for name in self.names:
            self.make_matrix(name + "attn.qkv.weight", a + 2 * kv, d)
            self.make_matrix(name + "attn.out.weight", d, a)
            self.make_matrix(name + "ff.up.weight", c["d_inner"] * (2 if c["ffn"] == "swiglu" else 1), d)
            self.make_matrix(name + "ff.down.weight", d, c["d_inner"])
            if c["gate"] != "none":
                for gate in ("attn.gate", "ff.gate"):
                    self.new(name + gate, d if c["gate"] == "channel" else 1, std=0.5,
                             mean=inverse_logistic(0.4))
        if c["inject"] == "add" or not c["tie_layers"]:
            return
        self.new("inject.weight", {"v": kv, "qkv": a + 2 * kv}.get(c["inject"], d), d)
        if c["inject"] == "linear":
            self.new("inject.state.weight", d, d)
        if c["inject"] == "decay":
            self.new("inject.decay", d)

    def matrix(self, name):
        if not self.c["wnorm"]:
            return self.w[name]
        v, g = self.w[name + "_v"], self.w[name + "_g"]
        return g[:, None] * v / v.norm(dim=1, keepdim=True)

    def gate(self, name):
        return 1.0 if self.c["gate"] == "none" else torch.sigmoid(self.w[name])

    def norm(self, x):
        if self.c["norm"] == "layer":
            x = x - x.mean(-1, keepdim=True)
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)

    def turn(self, x, positions):
        """RoPE of x [B,T,heads,h]: numbers i and i + h/2 are a pair."""
        if self.c["rope_base"] == 0:
            return x
        half = x.shape[-1] // 2
        angle = positions[:, None] * self.c["rope_base"] ** (-torch.arange(half) / half)
        cos, sin = torch.cos(angle)[None, :, None], torch.sin(angle)[None, :, None]
        a, b = x[..., :half], x[..., half:]
        return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)

    def unit(self, x):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) if self.c["qk_norm"] else x

    def attention(self, x, memory):
        """x [B,L,(H+2G)h] as it leaves the projection, memory [B,P,2Gh] or None."""
        c, h = self.c, self.c["d_head"]
        heads, groups, length = c["n_head"], c["n_kv_head"], x.shape[1]
        q, kv = x[..., :heads * h], x[..., heads * h:]
        past = 0 if memory is None else memory.shape[1]
        if memory is not None:
            kv = torch.cat((memory, kv), 1)
        split = lambda t: t.unflatten(-1, (-1, h))
        where = torch.arange(past + length, dtype=torch.float64)
        q = self.turn(self.unit(split(q)), where[past:])
        k = self.turn(self.unit(split(kv[..., :groups * h])), where)
        v = split(kv[..., groups * h:])
        k, v = (t.repeat_interleave(heads // groups, 2) for t in (k, v))
        score = torch.einsum("blnh,bknh->bnlk", q, k) / math.sqrt(h)
        back = where[past:, None] - where[None, :]
        hidden = back < 0
        if c["local_size"] > 0:
            hidden = hidden | (back >= c["local_size"])
        weight = torch.softmax(score.masked_fill(hidden, -math.inf), -1)
        return torch.einsum("bnlk,bknh->blnh", weight, v).flatten(2)

    def feed_forward(self, name, x):
        up = x @ self.matrix(name + "ff.up.weight").T
        if self.c["ffn"] == "swiglu":
            a, b = up.chunk(2, -1)
            return silu(a) * b
        return torch.relu(up) ** (2 if self.c["ffn"] == "relu2" else 1)

    def project(self, name, h, u=None):
        n = h if self.c["norm_place"] == "post" else self.norm(h)
        x = n @ self.matrix(name + "attn.qkv.weight").T
        return x if u is None else x + u

    def block(self, name, h, u=None, read=None):
        """What `name` makes of h [B,L,D]. read[name] gets the keys and values that it saw."""
        opens, closes = self.c["norm_place"] != "post", self.c["norm_place"] != "pre"
        x = self.project(name, h, u)
        if read is not None:
            read[name] = x[..., self.c["n_head"] * self.c["d_head"]:]
        a = self.attention(x, self.memory[name]) @ self.matrix(name + "attn.out.weight").T
        y = h + self.gate(name + "attn.gate") * a
        if closes:
            y = self.norm(y)
        hidden = self.feed_forward(name, self.norm(y) if opens else y)
        out = y + self.gate(name + "ff.gate") * (hidden @ self.matrix(name + "ff.down.weight").T)
        return self.norm(out) if closes else out

    def embed(self, tokens, read=None):
        e = self.norm(math.sqrt(self.c["d_model"]) * self.w["word_emb.emb_layers.0.weight"][tokens])
        for name in self.names[:self.first]:
            e = self.block(name, e, read=read)
        return self.norm(e) if self.first > 0 else e

    def enter(self, z, e):
        """h of the core's first block, and what is added to its projection."""
        inject = self.c["inject"]
        if inject == "add":
            return z + e, None
        u = e @ self.w["inject.weight"].T
        if inject == "decay":
            return torch.sigmoid(self.w["inject.decay"]) * z + u, None
        if inject == "linear":
            return z @ self.w["inject.state.weight"].T + u, None
        if inject == "v":
            width = (self.c["n_head"] + self.c["n_kv_head"]) * self.c["d_head"]
            u = torch.cat((torch.zeros(*u.shape[:2], width), u), -1)
        return z, u

    def f(self, z, e, read=None):
        h, u = self.enter(z, e)
        for name in self.names[self.first:self.first + self.core]:
            h = self.block(name, h, u, read)
            u = None
        if self.c["outer_norm"]:
            return self.norm(h)
        taken = self.c["norm_place"] == "pre" and self.c["inject"] in ("add", "v", "qkv")
        return h - z if taken else h

    def losses(self, h, target, read=None):
        for name in self.names[self.first + self.core:]:
            h = self.block(name, h, read=read)
        logits = self.norm(h) @ self.w["word_emb.emb_layers.0.weight"].T + self.w["crit.out_layers.0.bias"]
        return cross_entropy(logits.transpose(1, 2), target, reduction="none")

    def remember(self, read):
        for name, rows in read.items():
            old = self.memory[name]
            rows = rows.detach()
            rows = rows if old is None else torch.cat((old, rows), 1)
            self.memory[name] = rows[:, -MEMORY:]

    def first_keys(self, h, e):
        """Keys and values of the core's first block where its input is the output state."""
        name = self.names[self.first]
        x = self.project(name, *self.enter(h, e))
        return {name: x[..., self.c["n_head"] * self.c["d_head"]:]}

    def layers(self, tokens, read):
        h = self.embed(tokens)
        for name in self.names:
            h = self.block(name, h, read=read)
        return h

    def gradients(self, loss):
        names = list(self.w)
        found = torch.autograd.grad(loss, [self.w[n] for n in names], allow_unused=True)
        return {n: torch.zeros_like(self.w[n]) if g is None else g for n, g in zip(names, found)}


def channels(x):
    return x.detach().transpose(1, 2).contiguous()


def put_memory(out, model, prefix, label):
    for i, name in enumerate(model.names):
        if model.memory[name] is not None:
            out[f"{prefix}{label}.{i}"] = model.memory[name].transpose(0, 1).contiguous()


def put_losses(out, prefix, nll, grads):
    out[prefix + "nll"] = nll.detach().T.contiguous()
    out[prefix + "loss"] = nll.detach().mean().reshape(1)
    for name, g in grads.items():
        out[f"{prefix}g:{name}"] = g.detach().contiguous()


def jacobian(model, z, e):
    f = lambda flat: model.f(flat.view_as(z), e).flatten()
    return torch.autograd.functional.jacobian(f, z.flatten())


def solve(model, e):
    """The fixed point by damped steps and then Newton's."""
    z, e = torch.zeros_like(e), e.detach()
    with torch.no_grad():
        for _ in range(60):
            z = 0.5 * z + 0.5 * model.f(z, e)
    for _ in range(30):
        g = (model.f(z, e) - z).detach().flatten()
        if g.norm() <= 1e-15 * z.norm():
            break
        step = torch.linalg.solve(torch.eye(g.numel()) - jacobian(model, z, e), g)
        z = (z.flatten() + step).view_as(z).detach()
    off = ((model.f(z, e) - z).norm() / z.norm()).item()
    if not off < 1e-13:
        sys.exit(f"no fixed point: residual {off:g}")
    return z


def equilibrium(model, tokens, target, out, prefix, read):
    e = model.embed(tokens, read)
    z = solve(model, e)
    h = model.f(z, e, read)
    point = h.detach().requires_grad_(True)
    nll = model.losses(point, target, read)
    dh, = torch.autograd.grad(nll.mean(), point, retain_graph=True)
    size = dh.numel()
    y = torch.linalg.solve((torch.eye(size) - jacobian(model, z, e.detach())).T, dh.flatten()).view_as(dh)
    direct = model.gradients(nll.mean())
    through = model.gradients((h * y.detach()).sum())
    put_losses(out, prefix, nll, {n: direct[n] + through[n] for n in direct})
    out[prefix + "z_star"], out[prefix + "f_z_star"] = channels(z), channels(h)
    out[prefix + "dl_dzstar"], out[prefix + "y_star"] = channels(dh), channels(y)
    read.update(model.first_keys(h, e))


def unrolled(model, tokens, target, steps, out, prefix, read):
    if model.c["layers"] > 0:
        h, e = model.layers(tokens, read), None
    else:
        e = model.embed(tokens, read)
        h = torch.zeros_like(e)
        for _ in range(steps):
            h = model.f(h, e, read)
    nll = model.losses(h, target, read)
    put_losses(out, prefix, nll, model.gradients(nll.mean()))
    if e is not None:
        read.update(model.first_keys(h, e))


def penalty(model, tokens, target, out):
    """The loss at the equilibrium, plus weight |v^T J|^2 / count with its gradient at constant z."""
    weight, e = 0.7, model.embed(tokens)
    z = solve(model, e)
    v = torch.randn(z.shape, generator=model.random)
    point = z.clone().requires_grad_(True)
    h = model.f(point, e)
    vj, = torch.autograd.grad(h, point, v, create_graph=True)
    jac = (vj * vj).sum() / vj.numel()
    dh_point = h.detach().requires_grad_(True)
    nll = model.losses(dh_point, target)
    dh, = torch.autograd.grad(nll.mean(), dh_point, retain_graph=True)
    # the penalty's own gradient at z goes through the equilibrium too, where it has one
    size = dh.numel()
    y = torch.linalg.solve((torch.eye(size) - jacobian(model, z, e.detach())).T, dh.flatten()).view_as(dh)
    direct = model.gradients(nll.mean())
    through = model.gradients((h * y.detach()).sum() + weight * jac)
    put_losses(out, "", nll, {n: direct[n] + through[n] for n in direct})
    out["v"], out["jac_weight"] = channels(v), torch.tensor([weight])
    out["jac_loss"] = jac.detach().reshape(1)


def dump(name, folder):
    kind, steps, settings = CASES[name]
    model = Modern(settings, seed=1 + list(CASES).index(name))
    segments = 1 if kind == "jacreg" else SEGMENTS
    stream = torch.randint(0, VOCAB, (segments * LENGTH + 1, BATCH), generator=model.random)
    out = {"stream": stream.to(torch.int32)}
    for weight, values in model.w.items():
        out["w:" + weight] = values.detach().contiguous()
    for s in range(segments):
        tokens, target = stream[s * LENGTH:(s + 1) * LENGTH].T, stream[s * LENGTH + 1:(s + 1) * LENGTH + 1].T
        prefix, read = f"s{s}:", {}
        if kind == "jacreg":
            penalty(model, tokens, target, out)
            break
        if kind == "deq":
            put_memory(out, model, prefix, "mem_kv_in")
            equilibrium(model, tokens, target, out, prefix, read)
        else:
            unrolled(model, tokens, target, steps, out, prefix, read)
        model.remember(read)
        put_memory(out, model, prefix, "mem_kv")
    config = dict(model.c, vocab_size=VOCAB, tgt_len=LENGTH, mem_len=MEMORY)
    meta = {"deq_dump": "1", "kind": kind, "config": json.dumps(config)}
    if kind == "unrolled":
        meta["n_unroll"] = str(steps)
    save_file(out, os.path.join(folder, f"modern_{name}.safetensors"), meta)


def main():
    folder, names = sys.argv[1], sys.argv[2:] or list(CASES)
    os.makedirs(folder, exist_ok=True)
    for name in names:
        dump(name, folder)


if __name__ == "__main__":
    main()
