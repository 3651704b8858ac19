#!/usr/bin/env python3
"""Times the DEQ-Transformer (deq_torch.py) or the modern cell (modern_torch.py) in PyTorch on the
batch and optimizer of `deq bench train`: Adam, clipping by the global norm. Prints one JSON object.

    bench_torch.py [--cell transformer] --peer torch|torchdeq --mode train|unroll|eval
    bench_torch.py --cell modern [--explicit] [--compile]

Both take [--precision fp32|bf16] [--steps N] [--threads N] and sizes (--width N and so on).
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn

from deq_torch import Model, autocast, rss
from modern_torch import Modern


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--peer", choices=["torch", "torchdeq"], default="torch")
    p.add_argument("--mode", choices=["train", "unroll", "eval"], default="train")
    p.add_argument("--cell", choices=["transformer", "modern"], default="transformer")
    p.add_argument("--explicit", action="store_true", help="modern: run the blocks once")
    p.add_argument("--compile", action="store_true", dest="compiled", help="modern: torch.compile")
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    for name, value in {"steps": 10, "warm": 3, "threads": 0, "width": 256, "heads": 8,
                        "inner": 1024, "vocab": 10000, "batch": 8, "length": 64, "forward": 13,
                        "backward": 12, "layers": 12, "blocks": 2}.items():
        p.add_argument("--" + name, type=int, default=value)
    p.set_defaults(dropout=0.0, std=0.05)
    a = p.parse_args()
    a.memory, a.eval_forward = a.length, a.forward
    if a.threads > 0:
        torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = (Modern if a.cell == "modern" else Model)(a).train(a.mode != "eval")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before, times = rss(False), []
    for i in range(a.warm + a.steps):
        # frequencies fall like 1 / rank
        draw = (a.vocab ** torch.rand(2, a.batch, a.length)).long().clamp_(max=a.vocab) - 1
        start = time.perf_counter()
        with autocast(a.precision), torch.set_grad_enabled(a.mode != "eval"):
            loss = model(draw[0], draw[1], a.layers if a.mode == "unroll" else 0)
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
