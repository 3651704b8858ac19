"""Deep equilibrium language models of deq in PyTorch.

DEQ-Transformer and DEQ-TrellisNet (Bai, Kolter, Koltun 2019), a modern cell, and explicit networks
of the same blocks. What deq trains is evaluated, sampled and trained on here. The folder's README says what is
left out. Shapes: B sequences, T positions, P positions of memory, K = P + T keys, D numbers of a
state.

Outside of training (model.eval()) every position is solved to `config.eval_tol` and sees
eval.mem_len + eval.tgt_len tokens, itself included, as `deq score` does. In training, segments of
train.tgt_len with memory of train.mem_len are solved as the configuration's solvers say.
"""
import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_deq import DEQConfig
from .solvers_deq import solve

PUBLISHED_SPAN = 1000  # compat: attention reaches no farther
GUESS_WEIGHT = 1e-5  # of the fit of a learned start in the loss
NORM_EPS = 1e-5
# What transformers calls the memory of earlier positions changed in version 5.
CACHE_NAME = "past_key_values"
if "cache" in {field.name for field in dataclasses.fields(CausalLMOutputWithPast)}:
    CACHE_NAME = "cache"


# ---- Parameters ----------------------------------------------------------------------------------

class Part(nn.Module):
    """Parameters under one name; `first` tells how each begins."""

    def __init__(self):
        super().__init__()
        self.first = {}


def declare(root, name, shape, first=("zero",)):
    """Adds a parameter under a dotted name."""
    *path, last = name.split(".")
    at = root
    for step in path:
        if step not in at._modules:
            at.add_module(step, Part())
        at = at._modules[step]
    at.register_parameter(last, nn.Parameter(torch.zeros(shape)))
    at.first[last] = first


def declare_matrix(root, name, shape, first, wnorm):
    """A matrix or convolution, with weight norm its rows' lengths and directions."""
    if not wnorm:
        declare(root, name + ".weight", shape, first)
        return
    declare(root, name + ".parametrizations.weight.original0", [shape[0]] + [1] * (len(shape) - 1),
            ("length",))
    declare(root, name + ".parametrizations.weight.original1", shape, first)


def matrix(root, name, mask=None):
    """The matrix in effect."""
    part = root.get_submodule(name)
    if hasattr(part, "weight"):
        return part.weight if mask is None else part.weight * mask
    pair = part.parametrizations.weight
    v = pair.original1 if mask is None else pair.original1 * mask
    return v * (pair.original0 / v.flatten(1).norm(dim=1).view_as(pair.original0))


def dropout_mask(like, shape, rate):
    """Factors 0 and 1 / (1 - rate), or None where nothing is dropped."""
    if rate == 0:
        return None
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - rate) / (1 - rate)


def times(x, mask):
    return x if mask is None else x * mask


# ---- Cells ---------------------------------------------------------------------------------------

class Transformer:
    """f of the DEQ-Transformer: relative attention and a feed-forward network, block by block."""

    def __init__(self, m):
        self.m = m
        self.layered = m["layers"] > 0 and not m["tie_layers"]
        self.blocks = m["layers"] if self.layered else m["blocks"]
        self.input = self.state = self.output = m["d_model"]
        self.output_start = 0
        self.embed_scale = math.sqrt(m["d_model"])
        self.dropout_in = self.dropout_out = m["dropout"]
        self.span = m["local_size"] or (PUBLISHED_SPAN if m["compat"] else 0)

    def block_name(self, j):
        return "func." if self.blocks == 1 else f"func.blocks.{j}."

    def inject_name(self, j):
        return "inject_conv" if self.m["blocks"] == 1 else f"inject_conv.{j}"

    def declare(self, root):
        m, d, inner = self.m, self.m["d_model"], self.m["d_inner"]
        normal = ("normal", m["init_std"])
        for j in range(self.blocks):
            name = self.block_name(j)
            for part, shape in (("dec_attn.qkv_net", [3 * d, d, 1]), ("dec_attn.r_net", [d, d, 1]),
                                ("dec_attn.o_net", [d, d, 1]), ("pos_ff.ff1_net", [inner, d]),
                                ("pos_ff.ff2_net", [d, inner])):
                first = normal
                if m["wnorm"] and m["compat"]:
                    first = ("uniform", 1 / math.sqrt(shape[1]))
                declare_matrix(root, name + part, shape, first, m["wnorm"])
            for part, size in (("dec_attn.o_net.bias", d), ("pos_ff.ff1_net.bias", inner),
                               ("pos_ff.ff2_net.bias", d)):
                declare(root, name + part, [size])
            for part in ("dec_attn.r_w_bias", "dec_attn.r_r_bias"):
                declare(root, name + part, [m["n_head"], m["d_head"]], normal)
            if m["norm"] == "rms":
                declare(root, name + "dec_attn.norm.gain", [d], ("one",))
                declare(root, name + "pos_ff.norm.gain", [d], ("one",))
            if not self.layered:
                declare(root, self.inject_name(j) + ".weight", [3 * d, d, 1], normal)
                declare(root, self.inject_name(j) + ".bias", [3 * d])

    def weights(self, root):
        """The weights in effect, for one call or for a whole generation."""
        return [self.block_weights(root, j) for j in range(self.blocks)]

    def block_weights(self, root, j):
        name = self.block_name(j)
        attn, ff = root.get_submodule(name + "dec_attn"), root.get_submodule(name + "pos_ff")
        rms = self.m["norm"] == "rms"
        w = {"qkv": matrix(root, name + "dec_attn.qkv_net").squeeze(-1),
             "r": matrix(root, name + "dec_attn.r_net").squeeze(-1),
             "o": matrix(root, name + "dec_attn.o_net").squeeze(-1), "o_bias": attn.o_net.bias,
             "ff1": matrix(root, name + "pos_ff.ff1_net"), "ff1_bias": ff.ff1_net.bias,
             "ff2": matrix(root, name + "pos_ff.ff2_net"), "ff2_bias": ff.ff2_net.bias,
             "r_w": attn.r_w_bias[:, None], "r_r": attn.r_r_bias[:, None],
             "attn_gain": attn.norm.gain if rms else None, "ff_gain": ff.norm.gain if rms else None}
        if not self.layered:
            inject = root.get_submodule(self.inject_name(j))
            w["inject"], w["inject_bias"] = inject.weight.squeeze(-1), inject.bias
        return w

    def norm(self, x, gain):
        if gain is None:
            return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS) * gain

    def attention_input(self, w, z):
        return self.norm(z, w["attn_gain"]) if self.m["pre_lnorm"] else z

    def split(self, x):
        """[B,T,D] to [B,H,T,h]"""
        b, t, _ = x.shape
        return x.view(b, t, self.m["n_head"], self.m["d_head"]).transpose(1, 2)

    def positions(self, like, keys):
        """Sinusoids [K,D] of the distances K - 1 .. 0, sines first."""
        d = self.m["d_model"]
        wide = torch.float32 if like.device.type == "mps" else torch.float64
        distance = torch.arange(keys - 1, -1, -1, dtype=wide, device=like.device)
        step = torch.arange(d // 2, dtype=wide, device=like.device) * (-2 / d)
        angle = distance[:, None] * 10000 ** step
        out = torch.cat([angle.sin(), angle.cos()], 1).to(like.dtype)
        return F.pad(out, (0, d - out.shape[1]))

    def masks(self, e, keys, training):
        """Dropout of a segment, one dict a block, and that of the positions."""
        m, (b, t, d) = self.m, e.shape
        if not training:
            return [{}] * self.blocks, None
        rate = m["dropout"]
        return [{"att": dropout_mask(e, (b, m["n_head"], t, keys), m["dropatt"]),
                 "out": dropout_mask(e, (b, 1, d), rate),
                 "ff1": dropout_mask(e, (b, 1, m["d_inner"]), rate),
                 "ff2": dropout_mask(e, (b, 1, d), rate)} for _ in range(self.blocks)
                ], dropout_mask(e, (1, d), rate)

    def begin(self, weights, e, memory, span, valid, training):
        """What is constant in a solve. Returns f, whose argument j limits it to one layer."""
        b, t, _ = e.shape
        p = memory.length
        keys = p + t
        masks, position_mask = self.masks(e, keys, training)
        positions = None
        if memory.tables is None or memory.tables[0].shape[0] < keys:
            positions = times(self.positions(e, keys), position_mask)
        old = torch.arange(keys, device=e.device) - p - torch.arange(t, device=e.device)[:, None]
        hidden = old > 0
        if span:
            hidden = hidden | (old <= -span)
        if valid is not None:  # a position always sees itself, so that no sum is empty
            hidden = hidden | (~valid[:, None, None, :] & (old != 0))
        blocks = []
        for j, w in enumerate(weights):
            u = None if self.layered else F.linear(e, w["inject"], w["inject_bias"])
            table = F.linear(positions, w["r"]) if positions is not None else memory.tables[j]
            rk = self.split(table[table.shape[0] - keys:][None])
            blocks.append({"u": u, "rk": rk, "kv": self.memory_keys(w, memory, j), "w": w})

        def block(j, z):
            s, w, mask = blocks[j], blocks[j]["w"], masks[j]
            qkv = F.linear(self.attention_input(w, z), w["qkv"])
            q, k, v = (qkv if s["u"] is None else qkv + s["u"]).chunk(3, dim=-1)
            if s["kv"] is not None:
                k, v = torch.cat([s["kv"][0], k], 1), torch.cat([s["kv"][1], v], 1)
            q, k, v = self.split(q), self.split(k), self.split(v)
            place = torch.matmul(q + w["r_r"], s["rk"].transpose(2, 3))
            # Row i moves left by T - 1 - i, by a pad and a change of shape.
            place = F.pad(place, (1, 0)).flatten(2)[..., t:].view_as(place)
            score = torch.matmul(q + w["r_w"], k.transpose(2, 3)) + place
            score = (score * self.m["d_head"] ** -0.5).masked_fill(hidden, -math.inf)
            a = times(score.softmax(-1), mask.get("att"))
            a = torch.matmul(a, v).transpose(1, 2).flatten(2)
            y = times(F.linear(a, w["o"], w["o_bias"]), mask.get("out")) + z
            if self.m["pre_lnorm"]:
                x = self.norm(y, w["ff_gain"])
                y = x if self.m["compat"] else y  # a published quirk
            else:
                x = y = self.norm(y, w["attn_gain"])
            h = times(F.relu(F.linear(x, w["ff1"], w["ff1_bias"])), mask.get("ff1"))
            out = times(F.linear(h, w["ff2"], w["ff2_bias"]), mask.get("ff2")) + y
            return out if self.m["pre_lnorm"] else self.norm(out, w["ff_gain"])

        def f(z, inputs=None):
            for j in range(self.blocks):
                if inputs is not None:
                    inputs.append(z)
                z = block(j, z)
            return z

        f.injections = [s["u"] for s in blocks]
        f.tables = [s["rk"].transpose(1, 2).flatten(2)[0] for s in blocks]
        return f

    def memory_keys(self, w, memory, j):
        """Keys and values [B,P,D] of block j's memory."""
        if memory.length == 0:
            return None
        if memory.keys is not None:
            return memory.keys[j]
        qkv = F.linear(self.attention_input(w, memory.states[j]), w["qkv"])
        if not self.layered:
            qkv = qkv + memory.injections[j]
        return qkv.chunk(3, dim=-1)[1:]

    @torch.no_grad()
    def remember(self, memory, weights, f, states, e, keep, as_keys):
        """Appends block inputs `states` to the memory, of which `keep` positions stay."""
        def joined(old, new):
            x = new if old is None else torch.cat([old, new], 1)
            return x[:, max(x.shape[1] - keep, 0):]

        old = memory.length > 0
        if not as_keys:
            memory.states = [joined(memory.states[j] if old else None, states[j].detach())
                             for j in range(self.blocks)]
            if not self.layered:
                memory.injections = [joined(memory.injections[j] if old else None, u.detach())
                                     for j, u in enumerate(f.injections)]
            memory.length = memory.states[0].shape[1]
            return
        fresh, d = [], self.m["d_model"]
        for j, w in enumerate(weights):
            kv = F.linear(self.attention_input(w, states[j]), w["qkv"][d:])
            if not self.layered:
                kv = kv + f.injections[j][..., d:]
            before = memory.keys[j] if old else (None, None)
            fresh.append(tuple(joined(x, new) for x, new in zip(before, kv.chunk(2, dim=-1))))
        memory.keys = fresh
        memory.length = fresh[0][0].shape[1]
        if memory.tables is None or memory.tables[0].shape[0] < f.tables[0].shape[0]:
            memory.tables = f.tables


class Trellis:
    """f of the DEQ-TrellisNet: a gated causal convolution over the state (h, c)."""

    layered, blocks = False, 1

    def __init__(self, m):
        self.m = m
        self.half = m["nhid"] + m["nout"]
        self.input, self.state, self.output = m["d_embed"], 2 * self.half, m["nout"]
        self.output_start = m["nhid"]
        self.embed_scale = 1.0
        self.dropout_in, self.dropout_out = m["dropouti"], m["dropout"]
        self.span = 0
        self.pad = (m["ksize"] - 1) * m["dilation"]

    def declare(self, root):
        m, h, k = self.m, self.half, self.m["ksize"]
        declare_matrix(root, "trellisnet.func.full_conv", [4 * h, h, k], ("normal", m["init_std"]),
                       m["wnorm"])
        declare(root, "trellisnet.func.full_conv.bias", [4 * h], ("normal", m["init_std"]))
        uniform = ("uniform", 1 / math.sqrt(m["d_embed"] * k))
        declare_matrix(root, "trellisnet.inject_conv", [4 * h, m["d_embed"], k], uniform,
                       m["wnorm"])
        declare(root, "trellisnet.inject_conv.bias", [4 * h], uniform)

    def weights(self, root):
        conv = root.get_submodule("trellisnet.func.full_conv")
        mask = None
        if root.training and self.m["wdrop"] > 0:  # of all taps but the newest
            k = self.m["ksize"]
            mask = dropout_mask(conv.bias, (4 * self.half, self.half, k), self.m["wdrop"])
            mask[..., k - 1] = 1
        return {"state": matrix(root, "trellisnet.func.full_conv", mask), "bias": conv.bias,
                "inject": matrix(root, "trellisnet.inject_conv"),
                "inject_bias": root.get_submodule("trellisnet.inject_conv").bias}

    def begin(self, w, e, memory, span, valid, training):
        b, t, _ = e.shape
        m, half = self.m, self.half
        mask = dropout_mask(e, (b, 1, half), m["dropouth"]) if training else None
        old_e, old_h = e.new_zeros(b, m["ksize"] - 1, self.input), e.new_zeros(b, self.pad, half)
        c0 = e.new_zeros(b, 1, half)
        if memory.length > 0:
            state = memory.states[0]
            c0, h0 = state[:, -1:, half:], state[..., :half]
            if m["compat"]:  # as published, the last state stands for all before it
                h0 = h0[:, -1:].expand(-1, self.pad, -1)
            h0 = h0[:, max(h0.shape[1] - self.pad, 0):]
            old_h = torch.cat([old_h[:, h0.shape[1]:], h0], 1)
            if not m["compat"] and m["ksize"] > 1:
                before = memory.injections[0]
                old_e = torch.cat([old_e[:, before.shape[1]:], before], 1)
        old_h = times(old_h, mask)
        rows = torch.cat([old_e, e], 1)
        u = F.conv1d(rows.transpose(1, 2), w["inject"], w["inject_bias"]).transpose(1, 2)
        u = u + w["bias"]

        def f(z, inputs=None):
            if inputs is not None:
                inputs.append(z)
            h, c = z[..., :half], z[..., half:]
            rows = torch.cat([old_h, times(h, mask)], 1).transpose(1, 2)
            a = u + F.conv1d(rows, w["state"], dilation=m["dilation"]).transpose(1, 2)
            i, o, g, forget = a.chunk(4, dim=-1)
            before = torch.cat([c0, c[:, :-1]], 1)
            c = forget.sigmoid() * before + i.sigmoid() * g.tanh()
            return torch.cat([o.sigmoid() * c.tanh(), c], -1)

        return f

    @torch.no_grad()
    def remember(self, memory, weights, f, states, e, keep, as_keys):
        if keep == 0:
            return
        def joined(old, new, count):
            x = new.detach() if old is None else torch.cat([old, new.detach()], 1)
            return x[:, max(x.shape[1] - count, 0):]

        old = memory.length > 0
        count = self.pad if self.pad > 1 and not self.m["compat"] else 1
        memory.states = [joined(memory.states[0] if old else None, states[0], count)]
        memory.injections = [joined(memory.injections[0] if old else None, e,
                                    self.m["ksize"] - 1)]
        memory.length = memory.states[0].shape[1]


class Modern:
    """f of the modern cell: blocks with rotary positions, gates and norms without gains, between a
    prelude that makes the injection and a coda behind the fixed point."""

    def __init__(self, m):
        self.m = m
        self.layered = m["layers"] > 0 and not m["tie_layers"]
        self.blocks = m["layers"] if self.layered else m["blocks"]
        self.input = self.state = self.output = m["d_model"]
        self.output_start = 0
        self.embed_scale = math.sqrt(m["d_model"])
        self.dropout_in = self.dropout_out = m["dropout"]
        self.span = m["local_size"]
        self.width = m["n_head"] * m["d_head"]
        self.keys_width = m["n_kv_head"] * m["d_head"]
        self.names = ([f"prelude.{i}." for i in range(m["prelude"])] +
                      [f"func.blocks.{j}." for j in range(self.blocks)] +
                      [f"coda.{i}." for i in range(m["coda"])])
        self.first = m["prelude"]
        self.opens, self.closes = m["norm_place"] != "post", m["norm_place"] != "pre"
        self.takes_off = (m["norm_place"] == "pre" and not m["outer_norm"] and not self.layered
                          and m["inject"] in ("add", "v", "qkv"))

    def declare(self, root):
        m, d, inner = self.m, self.m["d_model"], self.m["d_inner"]
        normal = ("normal", m["init_std"])
        up = inner * (2 if m["ffn"] == "swiglu" else 1)
        gate = ("constant", math.log(m["gate_init"] / (1 - m["gate_init"])))
        wide = self.width + 2 * self.keys_width
        if m["inject"] != "add" and not self.layered:
            rows = {"v": self.keys_width, "qkv": wide}.get(m["inject"], d)
            declare(root, "inject.weight", [rows, d], normal)
            if m["inject"] == "linear":
                declare(root, "inject.state.weight", [d, d], normal)
            if m["inject"] == "decay":
                declare(root, "inject.decay", [d])
        for name in self.names:
            for part, shape in (("attn.qkv", [wide, d]), ("attn.out", [d, self.width]),
                                ("ff.up", [up, d]), ("ff.down", [d, inner])):
                declare_matrix(root, name + part, shape, normal, m["wnorm"])
            if m["gate"] != "none":
                for part in ("attn.gate", "ff.gate"):
                    declare(root, name + part, [d if m["gate"] == "channel" else 1], gate)

    def weights(self, root):
        """The weights in effect, for one call or for a whole generation. A gate is in its map's."""
        out = []
        for name in self.names:
            w = {part: matrix(root, name + part) for part in ("attn.qkv", "attn.out", "ff.up",
                                                              "ff.down")}
            if self.m["gate"] != "none":
                for part, gate in (("attn.out", "attn.gate"), ("ff.down", "ff.gate")):
                    w[part] = root.get_parameter(name + gate).sigmoid()[:, None] * w[part]
            out.append(w)
        if self.m["inject"] != "add" and not self.layered:
            inject = root.get_submodule("inject")
            out[self.first]["inject"] = inject.weight
            if self.m["inject"] == "linear":
                out[self.first]["state"] = inject.state.weight
            if self.m["inject"] == "decay":
                out[self.first]["decay"] = inject.decay.sigmoid()
        return out

    def norm(self, x):
        if self.m["norm"] == "layer":
            return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS)

    def project(self, w, h, u=None, keys_alone=False):
        """Queries, keys and values [B,T,(H+2G)h] of a block's input."""
        qkv = w["attn.qkv"][self.width:] if keys_alone else w["attn.qkv"]
        x = F.linear(self.norm(h) if self.opens else h, qkv)
        if u is None:
            return x
        return x + (u[..., self.width:] if keys_alone else u)

    def heads(self, x, angle=None):
        """[B,T,nh] to [B,n,T,h], normalised and turned if it has angles [T,h/2] or None of them."""
        b, t, _ = x.shape
        x = x.view(b, t, -1, self.m["d_head"]).transpose(1, 2)
        if angle is None:
            return x
        if self.m["qk_norm"]:
            x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS)
        if angle.shape[1] == 0:
            return x
        c, s = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * c - b * s, a * s + b * c], -1)

    def angles(self, like, count):
        """Of the positions 0 .. count - 1."""
        wide = torch.float32 if like.device.type == "mps" else torch.float64
        half = self.m["d_head"] // 2 if self.m["rope_base"] > 0 else 0
        step = torch.arange(half, dtype=wide, device=like.device) * (-2 / self.m["d_head"])
        where = torch.arange(count, dtype=wide, device=like.device)
        return where[:, None] * max(self.m["rope_base"], 1) ** step

    def enter(self, w, u, z):
        """h of the core's first block, and what is added to its projection."""
        if self.layered:
            return z, None
        inject = self.m["inject"]
        if inject == "add":
            return z + u, None
        if inject == "linear":
            return F.linear(z, w["state"]) + u, None
        return (w["decay"] * z + u, None) if inject == "decay" else (z, u)

    def begin(self, weights, e, memory, span, valid, training):
        """What is constant in a solve. Returns f, whose `seen` has keys and values of blocks
        around the core."""
        b, t, d = e.shape
        p, m, scale = memory.length, self.m, self.m["d_head"] ** -0.5
        repeat = m["n_head"] // m["n_kv_head"]
        angle = self.angles(e, p + t)
        old = torch.arange(p + t, device=e.device) - p - torch.arange(t, device=e.device)[:, None]
        hidden = old > 0
        if span:
            hidden = hidden | (old <= -span)
        if valid is not None:  # a position always sees itself, so that no sum is empty
            hidden = hidden | (~valid[:, None, None, :] & (old != 0))
        shapes = (((b, 1, d), m["dropout"]), ((b, 1, d), m["dropout"]),
                  ((b, m["n_head"], t, p + t), m["dropatt"]))
        masks = [[dropout_mask(e, *shape) if training else None for shape in shapes]
                 for _ in self.names]
        past = [self.memory_keys(memory, i) for i in range(len(self.names))]

        def block(i, h, u=None, seen=None):
            w = weights[i]
            x = self.project(w, h, u)
            kv = x[..., self.width:]
            if seen is not None:
                seen[i] = kv
            if past[i] is not None:
                kv = torch.cat([past[i], kv], 1)
            k, v = kv.split(self.keys_width, -1)
            q, k, v = self.heads(x[..., :self.width], angle[p:]), self.heads(k, angle), self.heads(v)
            k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
            score = (torch.matmul(q, k.transpose(2, 3)) * scale).masked_fill(hidden, -math.inf)
            a = torch.matmul(times(score.softmax(-1), masks[i][2]), v).transpose(1, 2).flatten(2)
            y = h + times(F.linear(a, w["attn.out"]), masks[i][0])
            y = self.norm(y) if self.closes else y
            up = F.linear(self.norm(y) if self.opens else y, w["ff.up"])
            if m["ffn"] == "swiglu":
                gate, up = up.chunk(2, dim=-1)
                up = F.silu(gate) * up
            else:
                up = F.relu(up).square() if m["ffn"] == "relu2" else F.relu(up)
            out = y + times(F.linear(up, w["ff.down"]), masks[i][1])
            return self.norm(out) if self.closes else out

        seen = {}
        for i in range(self.first):
            e = block(i, e, seen=seen)
        e = self.norm(e) if self.first > 0 else e
        u, w = e, weights[self.first]
        if m["inject"] != "add" and not self.layered:
            u = F.linear(e, w["inject"])
            if m["inject"] == "v":
                u = F.pad(u, (self.width + self.keys_width, 0))

        def f(z, inputs=None):
            h, added = self.enter(w, u, z)
            for j in range(self.blocks):
                if inputs is not None:
                    inputs.append(z if j == 0 else h)
                h = block(self.first + j, h, added if j == 0 else None)
            if m["outer_norm"] and not self.layered:
                return self.norm(h)
            return h - z if self.takes_off else h

        f.block, f.seen, f.injected = block, seen, u
        return f

    def head(self, f, h):
        """What the softmax sees of the state."""
        for i in range(self.first + self.blocks, len(self.names)):
            h = f.block(i, h, seen=f.seen)
        return self.norm(h)

    def memory_keys(self, memory, i):
        """Keys and values [B,P,2Gh] of block i's memory, as they leave the projection."""
        if memory.length == 0:
            return None
        return memory.keys[i][0] if memory.keys is not None else memory.states[i]

    @torch.no_grad()
    def remember(self, memory, weights, f, states, e, keep, as_keys):
        """Appends what the blocks have read, of which `keep` positions stay."""
        seen = dict(f.seen)
        for j, state in enumerate(states):
            h, u = (state, None) if j > 0 else self.enter(weights[self.first], f.injected, state)
            seen[self.first + j] = self.project(weights[self.first + j], h, u, keys_alone=True)
        rows = []
        for i in range(len(self.names)):
            old, new = self.memory_keys(memory, i), seen[i].detach()
            x = new if old is None else torch.cat([old, new], 1)
            rows.append(x[:, max(x.shape[1] - keep, 0):])
        if as_keys:
            memory.keys = [(x,) for x in rows]
        else:
            memory.states = rows
        memory.length = rows[0].shape[1]


# ---- Memory of earlier segments ------------------------------------------------------------------

class DEQCache:
    """What a model remembers of the positions before, for the next call.

    Outside of training these are keys and values of every block, so that a token of `generate`
    costs one new position. In training they are states and injections, from which keys follow
    under the weights of the moment. A trellis remembers the last states and embeddings that its
    convolutions reach.
    """

    is_compileable = False

    def __init__(self):
        self.seen = self.length = 0  # positions so far, and of them in memory
        self.states = self.injections = self.keys = None
        self.tables = self.weights = None  # of the attention and of f, while weights are constant
        self.valid = None  # [B,length] which of them are no padding, or None for all
        self.last = None  # [B,1,E] embedding of the last position, for a learned start

    def get_seq_length(self, layer_idx=0):
        return self.seen

    def get_max_cache_shape(self, layer_idx=0):
        return None

    def _each(self, change):
        def walk(x):
            if isinstance(x, (list, tuple)):
                return type(x)(walk(y) for y in x)
            return None if x is None else change(x)

        for name in ("states", "injections", "keys", "valid", "last"):
            setattr(self, name, walk(getattr(self, name)))

    def reorder_cache(self, beam_idx):
        self._each(lambda x: x.index_select(0, beam_idx.to(x.device)))
        return self

    def batch_select_indices(self, indices):
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats):
        self._each(lambda x: x.repeat_interleave(repeats, 0))


# ---- The vocabulary ------------------------------------------------------------------------------

class Vocabulary:
    """Embedding and softmax, adaptive where the configuration has cutoffs."""

    def __init__(self, m, cell):
        self.m, self.cell = m, cell
        self.ends = [0] + list(m["cutoffs"]) + [m["vocab_size"]]
        self.clusters = len(self.ends) - 1
        self.width = [m["d_embed"] // m["div_val"] ** i for i in range(self.clusters)]
        self.tables = self.clusters if m["div_val"] > 1 else 1
        self.projects_in = m["div_val"] > 1 or m["d_embed"] != cell.input
        self.projects_out = m["div_val"] > 1 or m["d_embed"] != cell.output
        if m["cell"] == "trellis":
            number = "" if m["div_val"] == 1 else ".{}"
            self.names = {"table": f"encoder{number}.weight", "proj": "encoder.proj.{}.weight",
                          "out": f"decoder{number}.weight", "bias": f"decoder{number}.bias",
                          "out_proj": "decoder.proj.{}.weight"}
            self.first, self.rows_first = ("uniform", 0.1), ("zero",)
            self.rows = "tail_vectors", "tail_bias"
        else:
            self.names = {"table": "word_emb.emb_layers.{}.weight",
                          "proj": "word_emb.emb_projs.{}.weight",
                          "out": "crit.out_layers.{}.weight", "bias": "crit.out_layers.{}.bias",
                          "out_proj": "crit.out_projs.{}.weight"}
            self.first = self.rows_first = ("normal", m["init_std"])
            self.rows = "crit.cluster_weight", "crit.cluster_bias"

    def tied_projection(self, i):
        if not (self.projects_in and self.projects_out) or self.cell.input != self.cell.output:
            return False
        ties = self.m["tie_projs"]
        return i < len(ties) and bool(ties[i]) if ties else i > 0

    def declare(self, root):
        m, first = self.m, ("normal", self.m["proj_init_std"])
        for i in range(self.tables):
            rows = self.ends[i + 1] - self.ends[i] if self.tables > 1 else m["vocab_size"]
            declare(root, self.names["table"].format(i), [rows, self.width[i]], self.first)
            if self.projects_in:
                declare(root, self.names["proj"].format(i), [self.cell.input, self.width[i]], first)
            if not m["tie_weights"]:
                declare(root, self.names["out"].format(i), [rows, self.width[i]], self.first)
            declare(root, self.names["bias"].format(i), [rows])
        for i in range(self.clusters):
            if self.projects_out and not self.tied_projection(i):
                declare(root, self.names["out_proj"].format(i), [self.cell.output, self.width[i]],
                        first)
        if self.clusters > 1:
            declare(root, self.rows[0], [self.clusters - 1, self.width[0]], self.rows_first)
            declare(root, self.rows[1], [self.clusters - 1])

    def embed(self, root, tokens):
        """e [B,T,E]"""
        def table(i):
            return root.get_parameter(self.names["table"].format(i))

        def project(i, rows):
            if not self.projects_in:
                return rows
            return F.linear(rows, root.get_parameter(self.names["proj"].format(i)))

        if self.tables == 1:
            return self.cell.embed_scale * project(0, F.embedding(tokens, table(0)))
        out = table(0).new_zeros(*tokens.shape, self.cell.input)
        for i in range(self.tables):
            here = (tokens >= self.ends[i]) & (tokens < self.ends[i + 1])
            rows = project(i, F.embedding(tokens[here] - self.ends[i], table(i)))
            out = out.masked_scatter(here[..., None], rows.to(out.dtype))
        return self.cell.embed_scale * out

    def cluster(self, root, i):
        """Table, bias and projection (or None) of cluster i."""
        at = i if self.tables > 1 else 0
        table = root.get_parameter(
            self.names["table" if self.m["tie_weights"] else "out"].format(at))
        bias = root.get_parameter(self.names["bias"].format(at))
        if self.tables == 1:
            table, bias = (x[self.ends[i]:self.ends[i + 1]] for x in (table, bias))
        name = self.names["out_proj"].format(i)
        if self.tied_projection(i):
            name = self.names["proj"].format(at)
        return table, bias, root.get_parameter(name) if self.projects_out else None

    def logits(self, root, q):
        """Log-probabilities of all tokens [B,T,V], without clusters up to a constant."""
        parts, head = [], None
        for i in range(self.clusters):
            table, bias, projection = self.cluster(root, i)
            if i == 0 and self.clusters > 1:
                table = torch.cat([table, root.get_parameter(self.rows[0])])
                bias = torch.cat([bias, root.get_parameter(self.rows[1])])
            x = F.linear(q if projection is None else q @ projection, table, bias)
            if self.clusters == 1:
                return x
            x = x.log_softmax(-1)
            if i == 0:
                head = x
                parts.append(x[..., :self.ends[1]])
            else:  # clusters stand in the head in reverse order
                parts.append(x + head[..., head.shape[-1] - i, None])
        return torch.cat(parts, -1)


# ---- Gradients -----------------------------------------------------------------------------------

class Implicit(torch.autograd.Function):
    """The identity, whose gradient is taken to the equilibrium's adjoint on the way back."""

    @staticmethod
    def forward(ctx, h, adjoint):
        ctx.adjoint = adjoint
        return h.view_as(h)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dh):
        return ctx.adjoint(dh), None


def implicit(f, z, settings, inputs):
    """H = f(z*) with the gradient (I - J)^-T of the equilibrium, solved for backwards."""
    z = z.detach().requires_grad_()
    h = f(z, inputs)

    def adjoint(dh):
        def step(y):
            with torch.enable_grad():
                return torch.autograd.grad(h, z, y, retain_graph=True)[0] + dh

        return solve(step, torch.zeros_like(dh), settings, reverse=True, f0=dh)[0]

    return Implicit.apply(h, adjoint) if h.requires_grad else h


# ---- The model -----------------------------------------------------------------------------------

class DEQForCausalLM(PreTrainedModel, GenerationMixin):
    """A language model whose hidden state is the fixed point of f."""

    config_class = DEQConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _supports_cache_class = False
    _no_split_modules = []
    _tied_weights_keys = None

    def __init__(self, config):
        super().__init__(config)
        if not config.deq:
            raise ValueError("config.json has no member \"deq\": export the checkpoint again with "
                             "deq export --format hf")
        m = config.deq["model"]
        cells = {"transformer": Transformer, "trellis": Trellis, "modern": Modern}
        if m["cell"] not in cells:
            raise NotImplementedError(f"model.cell: {m['cell']} is not known to this module")
        self.first = {}
        self.cell = cells[m["cell"]](m)
        self.vocabulary = Vocabulary(m, self.cell)
        self.vocabulary.declare(self)
        self.cell.declare(self)
        if m["start"] == "linear":
            w, e = self.cell.state, self.cell.input
            for name, shape in (("current", [w, e]), ("previous", [w, e]), ("bias", [w])):
                declare(self, "start." + name, shape)
        self.reports = []  # of the last call, what each segment's solve took
        self.last_fit = None  # and the loss of a learned start
        self.post_init()

    def _init_weights(self, module):
        for name, first in getattr(module, "first", {}).items():
            p = getattr(module, name)
            if first[0] == "normal":
                nn.init.normal_(p, std=first[1])
            elif first[0] == "uniform":
                nn.init.uniform_(p, -first[1], first[1])
            elif first[0] == "constant":
                nn.init.constant_(p, first[1])
            elif first[0] == "one":
                nn.init.ones_(p)
            elif first[0] == "zero":
                nn.init.zeros_(p)
        for name, first in getattr(module, "first", {}).items():
            p = getattr(module, name)
            if first[0] == "length" and not getattr(p, "_is_hf_initialized", False):
                with torch.no_grad():
                    p.copy_(module.original1.flatten(1).norm(dim=1).view_as(p))

    # -- settings of a call

    def _check_training(self):
        c = self.config.deq
        if c["jacobian"]["weight"] > 0 or c["jacobian"]["ramp_every"] > 0:
            raise NotImplementedError("jacobian.weight: this module has no penalty on the Jacobian; "
                                      "set it and jacobian.ramp_every to 0 in config.deq")
        if c["correction"]["weight"] > 0:
            raise NotImplementedError("correction.weight: this module has no fixed-point "
                                      "correction; set it to 0 in config.deq")

    def _forward_settings(self):
        s = dict(self.config.deq["solver"]["forward"])
        if self.training:
            return s
        if s["scope"] in ("sequence", "batch"):  # there, later tokens would matter
            s.update(scope="prefix", line_search=False)
        s.update(stop="rel", tol=self.config.eval_tol, max_iter=self.config.eval_max_iter,
                 min_iter=0)
        return s

    def _window(self):
        """Tokens that a token sees outside of training, or 0 for all, and whether memory of one
        less gives just that."""
        m, c = self.config.deq["model"], self.config.deq["eval"]
        if m["cell"] == "trellis":
            return 0, False
        window = c["mem_len"] + c["tgt_len"]
        if self.cell.span > 0:
            window = min(window, self.cell.span)
        return window, not (m["layers"] > 0 and m["tie_layers"])

    # -- a segment

    def _mask_embedding(self, tokens, e):
        m = self.config.deq["model"]
        if self.training and m["emb_dropout"] > 0:
            word = dropout_mask(e, (m["vocab_size"], 1), m["emb_dropout"])
            e = e * F.embedding(tokens, word)
        if self.training:
            e = times(e, dropout_mask(e, (e.shape[0], 1, e.shape[2]), self.cell.dropout_in))
        return e

    def _start(self, e, cache):
        if self.config.deq["model"]["start"] == "zero":
            return e.new_zeros(*e.shape[:2], self.cell.state)
        # A segment of training begins as if there were none before it.
        known = cache.last is not None and not self.training
        first = cache.last if known else torch.zeros_like(e[:, :1])
        before = torch.cat([first, e[:, :-1]], 1)
        return F.linear(e, self.start.current, self.start.bias) + F.linear(before,
                                                                           self.start.previous)

    def _layers(self, f, e, count, inputs):
        """Plain applications in place of a solve."""
        if self.cell.layered:
            return f(e, inputs)
        z = e.new_zeros(*e.shape[:2], self.cell.state)
        for _ in range(count):
            inputs.clear()
            z = f(z, inputs)
        return z

    def _truncated(self, f, z, gradient, inputs):
        """H and the state before it, by plain applications in drawn numbers, of which the last are
        differentiated."""
        mean, spread, draw = gradient["mean"], gradient["spread"], gradient["draw"]
        count = torch.full((z.shape[0] if draw == "sequence" else 1, 1, 1), float(mean))
        if draw == "fixed":
            count = count.round()
        else:
            count *= torch.exp(spread * torch.randn_like(count) - spread * spread / 2)
            count = torch.poisson(count)
        before = (count - gradient["steps"]).to(z.device)
        with torch.no_grad():
            for k in range(max(0, int(before.max()))):
                z = torch.where(before > k, f(z, inputs), z)
        for _ in range(gradient["steps"]):
            inputs.clear()
            z, last = f(z, inputs), z
        return z, last

    def _reversible(self, f, z, gradient, inputs):
        """Reversible steps in place of a solve. PyTorch keeps what undoing them would give."""
        y, b = z, gradient["damping"]
        for _ in range(gradient["steps"]):
            inputs.clear()
            y = (1 - b) * y + b * f(z, inputs)
            inputs.clear()
            z = (1 - b) * z + b * f(y, inputs)
        return z

    def _equilibrium(self, f, e, start, inputs):
        """H of a segment, and z* if there is one."""
        c = self.config.deq
        gradient, method = torch.is_grad_enabled(), c["gradient"]["method"]
        if c["model"]["layers"] > 0:
            return self._layers(f, e, c["model"]["layers"], inputs), None
        if self.training and gradient and method == "unroll":
            return self._layers(f, e, c["gradient"]["steps"], inputs), None
        noise = c["train"].get("start_noise", 0)
        if self.training and noise > 0:
            start = start + noise * torch.randn_like(start)
        if self.training and gradient and method == "reversible":
            h = self._reversible(f, start.detach(), c["gradient"], inputs)
            return h, h
        if self.training and gradient and method == "truncated":
            return self._truncated(f, start.detach(), c["gradient"], inputs)
        z, h, report = solve(f, start.detach(), self._forward_settings())
        self.reports.append(report)
        if not gradient:
            if self.cell.blocks > 1:
                h = f(z, inputs)
            return z if c["model"]["compat"] and not self.training else h, z
        if method == "phantom" and self.training:
            damping = c["gradient"]["damping"]
            for _ in range(c["gradient"]["steps"]):
                inputs.clear()
                fz = f(z, inputs)
                z = damping * fz + (1 - damping) * z
            return z, None
        if method == "one-step" and self.training:
            return f(z, inputs), z
        return implicit(f, z, c["solver"]["backward"], inputs), z

    def _segment(self, tokens, cache, span, keep, valid):
        """What the softmax sees [B,T,O] of one segment, and the loss of its start or None."""
        cell, grad = self.cell, torch.is_grad_enabled()
        e = self._mask_embedding(tokens, self.vocabulary.embed(self, tokens))
        now, modern = None, isinstance(cell, Modern)
        if modern:
            e = cell.norm(e)
        if valid is not None:
            now = valid[:, valid.shape[1] - tokens.shape[1]:, None]
            e = e * now
        weights = cache.weights
        if weights is None:
            weights = cell.weights(self)
        if not grad and not self.training:
            cache.weights = weights
        raw = cell.begin(weights, e, cache, span, valid, self.training)

        def f(z, inputs=None):  # what is padding stays 0
            out = raw(z, inputs)
            return out if now is None else out * now

        start, inputs, fit = self._start(e, cache), [], None
        h, z = self._equilibrium(f, e, start, inputs)
        if grad and z is not None and self.config.deq["model"]["start"] == "linear":
            guess = self._start(e.detach(), cache)
            fit = GUESS_WEIGHT / 2 * (guess - z.detach()).square().sum(-1).mean()
        seen = cell.head(raw, h) if modern else h
        # Layers with their own weights remember what each saw, a stack its last state first.
        states = inputs if cell.layered else [h] + inputs[1:]
        cell.remember(cache, weights, raw, states, e, keep, as_keys=not self.training)
        cache.last = e[:, -1:].detach()
        cache.seen += tokens.shape[1]
        cache.valid = None if valid is None else valid[:, valid.shape[1] - cache.length:]
        q = seen[..., cell.output_start:cell.output_start + cell.output]
        if self.training:
            compat = self.config.deq["model"]["compat"] and cell.output_start == 0 \
                and isinstance(cell, Transformer)
            shape = (*q.shape[:2], 1) if compat else (q.shape[0], 1, q.shape[2])
            q = times(q, dropout_mask(q, shape, cell.dropout_out))
        return q, fit

    def _segments(self, tokens, cache, mask):
        """All positions, segment by segment, and the sum of the losses of starts."""
        c = self.config.deq["train" if self.training else "eval"]
        outputs, fits = [], []
        window, exact = self._window()
        for at in range(0, tokens.shape[1], c["tgt_len"]):
            part = tokens[:, at:at + c["tgt_len"]]
            length = part.shape[1]
            span, keep = self.cell.span, c["mem_len"]
            if not self.training:
                keep = max(c["mem_len"] + c["tgt_len"] - 1, 1)
                if exact:
                    span, keep = window, window - 1
                else:  # the last position of the segment sees no more than a window
                    self._trim(cache, max(keep + 1 - length, 1))
            valid = cache.valid
            if mask is not None:
                new = mask[:, at:at + length]
                valid = new if cache.valid is None and cache.length == 0 else torch.cat(
                    [self._all_valid(cache, new) if cache.valid is None else cache.valid, new], 1)
            elif valid is not None:
                valid = torch.cat([valid, valid.new_ones(valid.shape[0], length)], 1)
            q, fit = self._segment(part, cache, span, keep, valid)
            outputs.append(q)
            if fit is not None:
                fits.append(fit)
        return torch.cat(outputs, 1), sum(fits) / len(fits) if fits else None

    @staticmethod
    def _all_valid(cache, like):
        return like.new_ones(like.shape[0], cache.length)

    @staticmethod
    def _trim(cache, keep):
        """Forgets the oldest keys, which the last position of the next segment must not see."""
        if cache.keys is None or cache.length <= keep:
            return
        cache.keys = [tuple(x[:, x.shape[1] - keep:] for x in kv) for kv in cache.keys]
        cache.length = keep
        if cache.valid is not None:
            cache.valid = cache.valid[:, cache.valid.shape[1] - keep:]

    # -- what transformers calls

    def forward(self, input_ids=None, attention_mask=None, past_key_values=None, labels=None,
                use_cache=None, logits_to_keep=0, return_dict=None, cache=None, **kwargs):
        """Logits of the tokens after each position; with adaptive softmax these are
        log-probabilities. `labels` are the input ids, -100 where no loss is wanted.

        The `cache` (or `past_key_values`) of an earlier call makes its text the memory of this one.
        """
        if kwargs.get("inputs_embeds") is not None:
            raise NotImplementedError("inputs_embeds: give input_ids")
        if input_ids is None or input_ids.dim() != 2 or input_ids.shape[1] == 0:
            raise ValueError("input_ids: want [batch, length] with a length of at least 1")
        if self.training:
            self._check_training()
        given = cache if cache is not None else past_key_values
        cache = given if given is not None else DEQCache()
        if not isinstance(cache, DEQCache):
            raise ValueError(f"cache: want a DEQCache, got {type(cache).__name__}")
        if self.training and cache.keys is not None:
            raise ValueError("cache: made outside of training, so that weights would get "
                             "no gradient through it; make it in training")
        mask = None
        if attention_mask is not None:
            mask = attention_mask[:, attention_mask.shape[1] - input_ids.shape[1]:].bool()
            mask = None if bool(mask.all()) else mask
        self.reports = []
        q, self.last_fit = self._segments(input_ids, cache, mask)
        if logits_to_keep is not None and not isinstance(logits_to_keep, int):
            q = q[:, logits_to_keep]
        elif logits_to_keep:
            q = q[:, -logits_to_keep:]
        logits = self.vocabulary.logits(self, q)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(),
                                   ignore_index=-100)
            if self.last_fit is not None:  # a start follows the equilibria, beside the loss
                loss = loss + (self.last_fit - self.last_fit.detach())
        keeps = given is not None or use_cache is not False
        out = CausalLMOutputWithPast(loss=loss, logits=logits,
                                     **{CACHE_NAME: cache if keeps else None})
        return out.to_tuple() if return_dict is False else out

    def _prepare_cache_for_generation(self, *args, **kwargs):
        """The first call makes the cache."""

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        cache = kwargs.get(CACHE_NAME)
        if cache is not None:
            input_ids = input_ids[:, cache.get_seq_length():]
        return {"input_ids": input_ids, CACHE_NAME: cache, "attention_mask": attention_mask,
                "use_cache": True, "logits_to_keep": 1}
