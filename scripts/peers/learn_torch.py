#!/usr/bin/env python3
"""Trains the DEQ-Transformer in PyTorch (deq_torch.py) as deq trains: data, sizes, optimizer,
schedules and evaluations of a configuration that deq has resolved (`deq info --json`, or the
config.json of a run), limits of Broyden's method as published.

    learn_torch.py --peer torch|torchdeq --config FILE --out DIR [--threads N]

DIR gets log.jsonl, with the lines of deq's own logs that learn.py reads, and best.pt, the weights
of the lowest validation loss. Prints one JSON object: the test text under these, and memory.
"""
import argparse
import json
import math
import os
import sys
import time
import types

import torch
from torch import nn

import schedule
import tokens
from deq_torch import Model, autocast, rss

# The model and optimizer that are written here, and no other.
WANTED = {"model.cell": "transformer", "model.blocks": 1, "model.layers": 0, "model.norm": "layer",
          "model.pre_lnorm": False, "model.wnorm": True, "model.cutoffs": [],
          "model.tie_weights": True, "model.dropatt": 0, "model.emb_dropout": 0,
          "model.local_size": 0, "model.compat": False, "train.accumulate": 1,
          "train.optimizer": "adam"}


def check(config):
    for key, value in WANTED.items():
        part, name = key.split(".")
        if config[part][name] != value:
            sys.exit("learn_torch.py: %s is %s; the peers have %s only" % (
                key, json.dumps(config[part][name]), json.dumps(value)))
    if config["model"]["d_embed"] != config["model"]["d_model"]:
        sys.exit("learn_torch.py: model.d_embed must be model.d_model")
    if config["train"]["precision"] not in ("fp32", "bf16"):
        sys.exit("learn_torch.py: train.precision must be fp32 or bf16")


class Text:
    """Batches of a split, in deq's order."""

    def __init__(self, folder, split, part):
        ids, self.vocab = tokens.read_split(folder, split)
        self.streams = tokens.Streams(ids, part["batch"], part["tgt_len"])
        self.segments = self.streams.segments

    def batch(self, k):
        rows = torch.frombuffer(self.streams.segment(k), dtype=torch.int32)
        rows = rows.view(self.streams.batch, -1).long()
        return rows[:, :-1], rows[:, 1:]


def evaluate(model, text, layers, mem_len):
    """Mean loss of a text, with a memory that begins empty."""
    held, length, total, count = model.memory, model.a.memory, 0.0, 0
    model.eval()
    model.memory, model.a.memory = None, mem_len
    with torch.no_grad(), autocast(model.a.precision):
        for k in range(text.segments):
            inputs, targets = text.batch(k)
            total += model(inputs, targets, layers).item() * targets.numel()
            count += targets.numel()
    model.train()
    model.memory, model.a.memory = held, length
    return total / count


def update(model, optimizer, text, train, n):
    """Update number n, from its batch to the new weights; (loss, tokens)."""
    k = (n - 1) % text.segments
    if k == 0:
        model.memory = None
    inputs, targets = text.batch(k)
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(train, n)
    with autocast(train["precision"]):
        loss = model(inputs, targets, schedule.layers(train, n))
    optimizer.zero_grad()
    loss.backward()
    if train["clip"] > 0:
        nn.utils.clip_grad_norm_(model.parameters(), train["clip"])
    optimizer.step()
    return loss.item(), targets.numel()


def learn(model, config, out):
    """The training, with its log and best.pt; what is shown goes to stderr."""
    train, check_on = config["train"], config["eval"]
    text = Text(config["data"]["dir"], "train", train)
    valid = Text(config["data"]["dir"], "valid", check_on)
    optimizer = torch.optim.Adam(model.parameters(), lr=train["lr"], eps=train["eps"],
                                 betas=(train["beta1"], train["beta2"]),
                                 weight_decay=train["weight_decay"])
    count, spent, best = 0, 0.0, math.inf
    with open(os.path.join(out, "log.jsonl"), "w", buffering=1) as log:
        for n in range(1, train["steps"] + 1):
            start = time.perf_counter()
            loss, trained = update(model, optimizer, text, train, n)
            seconds = time.perf_counter() - start
            count, spent = count + trained, spent + seconds
            print(json.dumps({"event": "step", "step": n, "loss": loss, "tokens": count,
                              "lr": optimizer.param_groups[0]["lr"], "seconds": seconds}), file=log)
            if not math.isfinite(loss):
                sys.exit("learn_torch.py: the loss of step %d is %g" % (n, loss))
            if n % 50 == 0:
                print("%s: step %d/%d  loss %.3f  %.0f tok/s" % (
                    model.a.peer, n, train["steps"], loss, count / spent), file=sys.stderr)
            if not schedule.evaluates(train, n):
                continue
            start = time.perf_counter()
            nll = evaluate(model, valid, schedule.layers(train, n), check_on["mem_len"])
            print(json.dumps({"event": "evaluation", "step": n, "nll": nll, "ppl": math.exp(nll),
                              "seconds": time.perf_counter() - start, "best": nll < best}),
                  file=log)
            print("%s: step %d/%d  validation ppl %.2f" % (
                model.a.peer, n, train["steps"], math.exp(nll)), file=sys.stderr)
            if nll < best:
                best = nll
                torch.save(model.state_dict(), os.path.join(out, "best.pt"))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--peer", choices=["torch", "torchdeq"], default="torch")
    p.add_argument("--config", required=True)
    p.add_argument("--out", required=True)
    # limits of 12 and 12, as the published code counts them: f(0) is one more
    for name, value in {"threads": 0, "forward": 13, "backward": 12, "eval-forward": 12}.items():
        p.add_argument("--" + name, type=int, default=value)
    a = p.parse_args()
    with open(a.config) as f:
        config = json.load(f)
    check(config)
    if a.threads > 0:
        torch.set_num_threads(a.threads)
    torch.manual_seed(config["train"]["seed"])
    if a.peer == "torchdeq":
        import torchdeq  # noqa: F401, before memory is looked at
    idle, m = rss(False), config["model"]
    try:
        test = Text(config["data"]["dir"], "test", config["eval"])
        model = Model(types.SimpleNamespace(
            peer=a.peer, vocab=test.vocab, width=m["d_model"], heads=m["n_head"],
            inner=m["d_inner"], memory=config["train"]["mem_len"], dropout=m["dropout"],
            std=m["init_std"], forward=a.forward, backward=a.backward, eval_forward=a.eval_forward,
            precision=config["train"]["precision"]))
        learn(model, config, a.out)
    except tokens.DataError as e:
        sys.exit("learn_torch.py: %s" % e)
    peak = rss(True)
    model.load_state_dict(torch.load(os.path.join(a.out, "best.pt")))
    nll = evaluate(model, test, 0, config["eval"]["mem_len"])
    print(json.dumps({"peer": a.peer, "torch": torch.__version__, "idle_bytes": idle,
                      "peak_bytes": peak, "test_ppl": math.exp(nll)}))


if __name__ == "__main__":
    main()
