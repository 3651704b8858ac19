#!/usr/bin/env python3
"""dump_peer.py KIND PEER FILE: what a PyTorch peer (torch, torchdeq) does in float64, solved
tightly, as a dump for `deq verify`: four updates by scripts/peers/learn_torch.py (KIND train), or
the loss and gradients of a segment under dropout masks (dropout). Needs torch.

dump_peer.py modern PEER FILE: losses and gradients of the modern cell (scripts/peers/modern_torch.py)
in two segments, as an equilibrium (PEER equilibrium) or run once (explicit). Needs torch 2.4."""
import json
import math
import os
import struct
import sys
import types

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/peers"))

import torch
from torch import nn

import learn_torch
import schedule
from deq_torch import Model
from modern_torch import Modern

VOCAB, WIDTH, HEADS, INNER, BATCH, LENGTH, STEPS = 60, 32, 2, 48, 3, 8, 4
RATE = 0.2
TRAIN = {"lr": 0.01, "clip": 0.25, "warmup_steps": 2, "steps": 8, "precision": "fp32",
         "pretrain_steps": 0}
CONFIG = {"cell": "transformer", "vocab_size": VOCAB, "d_model": WIDTH, "n_head": HEADS,
          "d_head": WIDTH // HEADS, "d_inner": INNER, "d_embed": WIDTH, "cutoffs": [], "div_val": 1,
          "tie_weights": True, "tie_projs": [False], "pre_lnorm": False, "wnorm": True,
          "local_size": 0, "tgt_len": LENGTH, "mem_len": LENGTH}
NAMES = {"table": "word_emb.emb_layers.0.weight", "bias": "crit.out_layers.0.bias",
         "block.qkv": "func.dec_attn.qkv_net.weight", "block.r": "func.dec_attn.r_net.weight",
         "block.o": "func.dec_attn.o_net.weight", "block.ff1": "func.pos_ff.ff1_net.weight",
         "block.ff2": "func.pos_ff.ff2_net.weight", "block.o_bias": "func.dec_attn.o_net.bias",
         "block.ff1_bias": "func.pos_ff.ff1_net.bias", "block.ff2_bias": "func.pos_ff.ff2_net.bias",
         "block.r_w": "func.dec_attn.r_w_bias", "block.r_r": "func.dec_attn.r_r_bias",
         "block.inject.weight": "inject_conv.weight", "block.inject.bias": "inject_conv.bias"}


def named(model, prefix):
    """Its parameters under deq's names."""
    for name, p in model.named_parameters():
        end = name[-2:] if name[-2:] in ("_v", "_g") else ""
        ours = NAMES[name] if name in NAMES else NAMES[name[:-2]] + end
        yield "%s:%s" % (prefix, ours), p.detach().clone()


class Stream:
    """A text of random tokens, as learn_torch.Text gives it."""
    segments = STEPS

    def __init__(self):
        self.ids = torch.randint(0, VOCAB, (BATCH, STEPS * LENGTH + 1))

    def batch(self, k):
        part = self.ids[:, k * LENGTH:(k + 1) * LENGTH + 1]
        return part[:, :-1], part[:, 1:]


def published_rate(train, n):
    """What `deq verify` expects of a dump: the first update at the full rate, all others one
    behind, and a cosine that begins at 0."""
    if n == 1:
        return train["lr"]
    if n - 1 < train["warmup_steps"]:
        return train["lr"] * (n - 1) / train["warmup_steps"]
    return train["lr"] * (1 + math.cos(math.pi * (n - 1) / train["steps"])) / 2


def save(path, kind, config, tensors, **facts):
    header = {"__metadata__": dict(facts, deq_dump="1", kind=kind, config=json.dumps(config))}
    data, at = b"", 0
    for name, x in tensors.items():
        x = torch.as_tensor(x).contiguous()
        raw = struct.pack("<%d%s" % (x.numel(), "d" if x.is_floating_point() else "q"),
                          *x.flatten().tolist())
        header[name] = {"dtype": "F64" if x.is_floating_point() else "I64", "shape": list(x.shape),
                        "data_offsets": [at, at + len(raw)]}
        data, at = data + raw, at + len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def train(model, text):
    """Updates as learn_torch makes them, but for the rate."""
    optimizer = torch.optim.Adam(model.parameters())
    losses, norms, rates, tensors = [], [], [], dict(named(model, "w0"))
    clip, schedule.rate = nn.utils.clip_grad_norm_, published_rate
    nn.utils.clip_grad_norm_ = lambda *x: norms.append(clip(*x).item())
    for n in range(1, STEPS + 1):
        losses.append(learn_torch.update(model, optimizer, text, TRAIN, n)[0])
        rates.append(optimizer.param_groups[0]["lr"])
    tensors.update(named(model, "w%d" % STEPS))
    return dict(tensors, losses=torch.tensor(losses), grad_norms=torch.tensor(norms),
                lrs=torch.tensor(rates), stream=text.ids.t(), base_lr=torch.tensor(TRAIN["lr"]),
                clip=torch.tensor(TRAIN["clip"]), warmup=TRAIN["warmup_steps"],
                max_step=TRAIN["steps"])


def dropout(model, text):
    """Masks in the order in which the model draws them; that of the output, which a dump has of
    another form, drops nothing."""
    masks, draw = [], model.block.mask
    model.block.dropout = RATE
    model.block.mask = lambda *shape: masks.append(draw(*shape)) or (
        masks[-1] if len(masks) < 6 else None)
    loss = model(*text.batch(0))
    loss.backward()
    tensors = dict(named(model, "w"), loss=loss.detach(), mem_z=model.memory[0].transpose(0, 1),
                   mem_u=model.memory[1].transpose(0, 1), stream=text.ids.t()[:LENGTH + 1],
                   mask_out=torch.ones(BATCH, 1, LENGTH))
    for p in model.parameters():
        p.data = p.grad
    tensors.update(named(model, "g"))
    names = ("mask_in_emb", "mask_pos", "mask_attn_out", "mask_ff2", "mask_ff1")
    assert [len(masks), masks[4].shape[2]] == [6, INNER]
    return dict(tensors, **dict(zip(names, masks)))


MODERN_NAMES = {"qkv": "attn.qkv.weight", "out": "attn.out.weight", "up": "ff.up.weight",
                "down": "ff.down.weight", "out_gate": "attn.gate", "down_gate": "ff.gate"}


def modern_name(name):
    if name in NAMES:
        return NAMES[name]
    _, part, number = name.split(".")
    return "func.blocks.%s.%s" % (number, MODERN_NAMES[part])


def modern(peer, path):
    explicit, blocks = peer == "explicit", 2
    model = Modern(types.SimpleNamespace(
        vocab=VOCAB, width=WIDTH, heads=HEADS, inner=INNER, memory=LENGTH, length=LENGTH, batch=BATCH,
        std=0.1, forward=150, backward=150, blocks=blocks, explicit=explicit, compiled=False))
    for name, p in model.named_parameters():
        if "gate" in name:
            nn.init.normal_(p, -0.5, 0.3)
    text = Stream()
    tensors = {"stream": text.ids.t()[:2 * LENGTH + 1]}
    for name, p in model.named_parameters():
        tensors["w:" + modern_name(name)] = p.detach()
    for k in range(2):
        model.zero_grad()
        loss = model(*text.batch(k))
        loss.backward()
        tensors["s%d:loss" % k] = loss.detach().reshape(1)
        for name, p in model.named_parameters():
            tensors["s%d:g:%s" % (k, modern_name(name))] = p.grad.clone()
    config = dict(CONFIG, cell="modern", norm="rms", wnorm=False, gate="channel", dropout=0.0, compat=False,
                  **({"layers": blocks, "tie_layers": False} if explicit else {"blocks": blocks}))
    if explicit:
        save(path, "unrolled", config, tensors, n_unroll="1")
    else:
        save(path, "deq", config, tensors)


def main():
    kind, peer, path = sys.argv[1:]
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    if kind == "modern":
        modern(peer, path)
        return
    model = Model(types.SimpleNamespace(
        peer=peer, vocab=VOCAB, width=WIDTH, heads=HEADS, inner=INNER, memory=LENGTH, dropout=0.0,
        std=0.1, forward=120, backward=120, eval_forward=120, precision="fp32"))
    config = dict(CONFIG, dropout=RATE) if kind == "dropout" else CONFIG
    save(path, kind, config, {"train": train, "dropout": dropout}[kind](model, Stream()))


if __name__ == "__main__":
    main()
