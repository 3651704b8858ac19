#!/usr/bin/env python3
"""Trains deq and its PyTorch peers on the same data, one after the other, and prints perplexity at
equal tokens, the time to a given perplexity, speed and memory.

    scripts/peers/learn.py [--python VENV/bin/python] [--config FILE] [--set KEY=VALUE]...
                           [--steps N] [--threads N] [--evaluations N] [--target PPL]
                           [--programs deq,torch,torchdeq] [--out DIR] [--json]
    scripts/peers/learn.py --report [--target PPL] [--out DIR] [--json]

deq trains its configuration as it is. The peers (learn_torch.py) train the same sizes on the same
batches with the same dropout, optimizer and schedules in the published way: Broyden's method from
zero with limits of 12 and 12, and 12 evaluations of f on held-out text. Their first weights have
deq's deviation (0.05 in kjv.json), which is kinder to them than their framework's default.

--steps shortens all phases in proportion. Training time is the sum of the updates' times, in all
programs: evaluations and files are left out. The time to the target is that to the first
evaluation on the validation text that is at or below it; there are --evaluations of them. The test
text is read by the weights of the lowest validation loss. Memory is the peak of deq's whole
process, and what the peers take above a process that has loaded PyTorch.

Each program leaves its log in DIR/PROGRAM (default: runs/peers). The table has all that DIR holds;
--report prints it and trains nothing. The peers need `pip install torch torchdeq` (a virtual
environment, named with --python).
"""
import argparse
import json
import os
import subprocess
import sys

import schedule
from compare import run

here = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = ("deq", "torch", "torchdeq")


def fail(text):
    sys.exit("learn.py: %s" % text)


# --- trainings --------------------------------------------------------------------------------


def measured(command, env):
    """Runs it, its stderr being shown; (stdout, bytes of memory it had at most)."""
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, universal_newlines=True)
    out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        fail("%s: exit %d" % (" ".join(command), child.returncode))
    return out, usage.ru_maxrss * 1024


def resolve(a, env):
    """(every key of the configuration, and the --set options that make it so)."""
    def info(keys):
        sets = [x for key in keys for x in ("--set", key)]
        return run([a.deq, "info", "--config", a.config, "--json"] + sets, env)["config"], sets

    config, _ = info(a.set)
    changes = schedule.shorten(config["train"], a.steps or config["train"]["steps"])
    changes["eval_every"] = max(1, changes.get("steps", config["train"]["steps"]) // a.evaluations)
    changes["log_every"] = 1
    return info(a.set + ["train.%s=%d" % x for x in sorted(changes.items())])


def train_deq(a, env, folder, sets):
    _, peak = measured([a.deq, "train", "--config", a.config, "--out", folder, "--device", "cpu",
                        "--threads", str(a.threads)] + sets, env)
    test = run([a.deq, "eval", os.path.join(folder, "best.bin"), "--split", "test", "--device",
                "cpu", "--threads", str(a.threads), "--json"], env)
    return {"peak_bytes": peak, "test_ppl": test["ppl"]}


def train_peer(a, env, folder, name, config):
    os.mkdir(folder)
    path = os.path.join(folder, "config.json")
    with open(path, "w") as f:
        json.dump(config, f)
    out, _ = measured([a.python, os.path.join(here, "learn_torch.py"), "--peer", name, "--config",
                       path, "--out", folder, "--threads", str(a.threads)], env)
    r = json.loads(out.strip().splitlines()[-1])
    return {"peak_bytes": r["peak_bytes"] - r["idle_bytes"], "test_ppl": r["test_ppl"]}


def train(a):
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    programs = [x for x in a.programs.split(",") if x]
    for name in programs:
        if name not in PROGRAMS:
            fail("--programs: %s is none of %s" % (name, ", ".join(PROGRAMS)))
        if os.path.exists(os.path.join(a.out, name)):
            fail("%s/%s is there: remove it, or name another folder with --out" % (a.out, name))
    config, sets = resolve(a, env)
    os.makedirs(a.out, exist_ok=True)
    for name in programs:
        folder = os.path.join(a.out, name)
        result = (train_deq(a, env, folder, sets) if name == "deq" else
                  train_peer(a, env, folder, name, config))
        with open(os.path.join(folder, "result.json"), "w") as f:
            json.dump(dict(result, threads=a.threads), f)


# --- what came of them ------------------------------------------------------------------------


def summarise(folder, target):
    """Figures of one training, from its log and its result."""
    with open(os.path.join(folder, "result.json")) as f:
        row = json.load(f)
    curve, tokens, seconds = [], 0, 0.0
    with open(os.path.join(folder, "log.jsonl")) as f:
        for line in f:
            x = json.loads(line)
            if x["event"] == "step":
                tokens, seconds = x["tokens"], seconds + x["seconds"]
            elif x["event"] == "evaluation":
                curve.append({"tokens": tokens, "seconds": seconds, "ppl": x["ppl"]})
    reached = [x["seconds"] for x in curve if x["ppl"] <= target]
    return dict(row, tokens=tokens, seconds=seconds, tokens_per_s=tokens / seconds, curve=curve,
                valid_ppl=curve[-1]["ppl"], target_seconds=reached[0] if reached else None)


def ratio(a, b):
    return None if a is None or b is None else a / b


def collect(out, target):
    rows = {name: summarise(os.path.join(out, name), target) for name in PROGRAMS
            if os.path.exists(os.path.join(out, name, "result.json"))}
    if not rows:
        fail("%s holds no finished training" % out)
    for name, row in rows.items():
        if "deq" in rows:
            row["times_deq"] = {key: ratio(row[key], rows["deq"][key]) for key in (
                "tokens_per_s", "seconds", "valid_ppl", "test_ppl", "target_seconds", "peak_bytes")}
    points = {tuple(x["tokens"] for x in row["curve"]) for row in rows.values()}
    if len(points) > 1 or len({row["threads"] for row in rows.values()}) > 1:
        fail("the trainings in %s differ in length, evaluations or threads: they cannot be "
             "compared" % out)
    return rows


def show(rows, target):
    def number(format, x):
        return "-" if x is None else format % x

    print("perplexity on the validation text after so many tokens, and seconds of training")
    print("%10s" % "tokens" + "".join("%20s" % name for name in rows))
    for points in zip(*(row["curve"] for row in rows.values())):
        print("%10d" % points[0]["tokens"] + "".join(
            "%11.2f %7.0fs" % (x["ppl"], x["seconds"]) for x in points))
    form = "%-14s %9s %11s %11s %9s %13s %11s"
    print("\n" + form % ("program", "tokens/s", "training s", "validation", "test",
                         "s to %g" % target, "memory MiB"))
    for name, r in rows.items():
        print(form % (name, "%.0f" % r["tokens_per_s"], "%.1f" % r["seconds"],
                      "%.2f" % r["valid_ppl"], "%.2f" % r["test_ppl"],
                      number("%.1f", r["target_seconds"]), "%.0f" % (r["peak_bytes"] / 2 ** 20)))
    for name, r in rows.items():
        if name != "deq" and "times_deq" in r:
            t = r["times_deq"]
            print(form % (name + " / deq", "%.2f" % t["tokens_per_s"], "%.2f" % t["seconds"],
                          "%.3f" % t["valid_ppl"], "%.3f" % t["test_ppl"],
                          number("%.2f", t["target_seconds"]), "%.2f" % t["peak_bytes"]))


def main():
    p = argparse.ArgumentParser()
    root = os.path.join(here, "../..")
    p.add_argument("--deq", default=os.path.join(root, "build/deq"))
    p.add_argument("--python", default=sys.executable)
    p.add_argument("--config", default=os.path.join(root, "configs/kjv.json"))
    p.add_argument("--set", action="append", default=[])
    p.add_argument("--steps", type=int, default=0)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--evaluations", type=int, default=12)
    p.add_argument("--target", type=float, default=37.4)
    p.add_argument("--programs", default=",".join(PROGRAMS))
    p.add_argument("--out", default="runs/peers")
    p.add_argument("--report", action="store_true")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if a.steps < 0 or a.evaluations < 1 or a.threads < 1:
        p.error("--steps, --evaluations and --threads want positive numbers")
    if not a.report:
        train(a)
    rows = collect(a.out, a.target)
    show(rows, a.target)
    if a.json:
        print(json.dumps({"target": a.target, "rows": rows}))


if __name__ == "__main__":
    main()
