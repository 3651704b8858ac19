#!/usr/bin/env python3
"""Alternates deq with its PyTorch peers on the same work, in one run, and prints ratios.

    scripts/peers/compare.py [--python VENV/bin/python] [--rounds N] [--steps N] [--threads N]
                             [--mode train|eval] [--peers torch,torchdeq] [--precision fp32|bf16]
    scripts/peers/compare.py --cell modern [--explicit] [--width N] [--peers torch,compiled] ...

The first form compares the paper's DEQ-Transformer by Broyden's method. The second one compares two
blocks of the modern cell, as an equilibrium (six evaluations and five products by Anderson's method)
or run once, with PyTorch's fused attention, as it is and under torch.compile.

The machine's speed varies: a figure of deq is only set beside those of the peers measured next to
it, and the median of these ratios over the rounds is what counts. The peers need
`pip install torch torchdeq` (a virtual environment, named with --python).
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))


def run(command, env):
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True)
    if done.returncode != 0:
        sys.exit("%s: exit %d\n%s" % (" ".join(command), done.returncode, done.stderr[-2000:]))
    return json.loads(done.stdout.strip().splitlines()[-1])


def modern_settings(a):
    """The modern cell for deq, and the same for bench_torch.py."""
    inner, heads = 2 * a.width, a.width // 32
    keys = {"model.cell": "modern", "model.norm": "rms", "model.wnorm": "false",
            "model.d_model": a.width, "model.n_head": heads, "model.d_inner": inner,
            "model.dropout": 0, "model.init_std": 0.05,
            "solver.forward.method": "anderson", "solver.forward.stop": "fixed",
            "solver.forward.scope": "prefix", "solver.forward.max_iter": 6,
            "solver.forward.history": 5, "solver.backward.method": "anderson",
            "solver.backward.stop": "fixed", "solver.backward.scope": "token",
            "solver.backward.max_iter": 5, "solver.backward.history": 3}
    keys.update({"model.layers": 2, "model.tie_layers": "false", "train.pretrain_steps": 0}
                if a.explicit else {"model.blocks": 2})
    theirs = ["--cell", "modern", "--width", a.width, "--heads", heads, "--inner", inner,
              "--forward", 6, "--backward", 5] + (["--explicit"] if a.explicit else [])
    return [w for k, v in keys.items() for w in ("--set", "%s=%s" % (k, v))], list(map(str, theirs))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--deq", default=os.path.join(here, "../../build/deq"))
    p.add_argument("--python", default=sys.executable)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--mode", choices=["train", "eval"], default="train")
    p.add_argument("--peers", help="torch, and torchdeq, or compiled with --cell modern")
    p.add_argument("--cell", choices=["transformer", "modern"], default="transformer")
    p.add_argument("--explicit", action="store_true", help="modern: two layers in place of a solve")
    p.add_argument("--width", type=int, default=256, help="modern: width of a token's state")
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    a = p.parse_args()
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    common = ["--steps", str(a.steps), "--threads", str(a.threads)]
    ours = [a.deq, "bench", "train" if a.mode == "train" else "solve", "--json", "--set",
            "train.precision=" + a.precision] + common
    theirs = []
    if a.cell == "modern":
        more, theirs = modern_settings(a)
        ours += more
    default = "torch,compiled" if a.cell == "modern" else "torch,torchdeq"
    peers = [x for x in (a.peers or default).split(",") if x]
    rows, rounds = {}, []
    for i in range(a.rounds):
        one = {"deq": run(ours, env)}
        for name in peers:
            which = ["--compile"] if name == "compiled" else ["--peer", name]
            one[name] = run([a.python, os.path.join(here, "bench_torch.py"), "--mode", a.mode,
                             "--precision", a.precision] + which + theirs + common, env)
        rounds.append(one)
        print("round %d: %s tokens/s" % (i + 1, ", ".join(
            "%s %.0f" % (name, x["tokens_per_s"]) for name, x in one.items())), file=sys.stderr)
    print("%-10s %12s %16s %12s" % ("program", "tokens/s", "deq is faster", "memory MiB"))
    for name in ["deq"] + peers:
        speed = statistics.median(r[name]["tokens_per_s"] for r in rounds)
        ratio = statistics.median(r["deq"]["tokens_per_s"] / r[name]["tokens_per_s"] for r in rounds)
        memory = statistics.median(r[name]["peak_bytes"] for r in rounds) / 2 ** 20
        print("%-10s %12.0f %14.2f x %12.0f" % (name, speed, ratio, memory))
        rows[name] = {"tokens_per_s": speed, "ratio": ratio, "peak_bytes": memory * 2 ** 20}
    print(json.dumps({"mode": a.mode, "precision": a.precision, "rounds": a.rounds,
                      "threads": a.threads, "rows": rows}))


if __name__ == "__main__":
    main()
