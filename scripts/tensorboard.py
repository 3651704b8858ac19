#!/usr/bin/env python3
"""Turns the log of a run into events for TensorBoard.

    scripts/tensorboard.py RUN [--out DIR] [--follow]

RUN is the folder of a run, which may be under way. The events go to DIR, by default
RUN/tensorboard, where those of an earlier call are replaced. With --follow the script waits for
more steps until Ctrl-C. A run that is stopped and goes on is followed too. Then:

    tensorboard --logdir DIR

Needs the package tensorboard, or tensorboardX, from PyPI. The events are written by its own writer.
"""
import argparse
import datetime
import glob
import json
import os
import signal
import sys
import time

# This file has the name of the package, which must not be looked for beside it.
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path = [place for place in sys.path if os.path.realpath(place or ".") != HERE]

# The name in TensorBoard, the object of the line that holds the number, and the number.
STEP = [
    ("train/loss", None, "loss"),
    ("train/perplexity", None, "ppl"),
    ("train/learning_rate", None, "lr"),
    ("train/gradient_norm", None, "grad_norm"),
    ("train/tokens_per_second", None, "tokens_per_s"),
    ("train/tokens", None, "tokens"),
    ("train/penalty", None, "penalty"),
    ("solver/evaluations_of_f", "forward", "evals_mean"),
    ("solver/residual", "forward", "rel_mean"),
    ("solver/backward_evaluations", "backward", "evals_mean"),
    ("solver/backward_residual", "backward", "rel_mean"),
]
EVALUATION = [
    ("validation/loss", None, "nll"),
    ("validation/perplexity", None, "ppl"),
    ("validation/bits_per_byte", None, "bits_per_byte"),
    ("validation/bits_per_byte_of_known_words", None, "bits_per_byte_known"),
    ("validation/evaluations_of_f", None, "nfe_mean"),
    ("validation/residual", None, "rel_mean"),
]
EVENTS = "events.out.tfevents.*"
EX_USAGE, EX_NOINPUT, EX_UNAVAILABLE, EX_CANTCREAT = 64, 66, 69, 73


def fail(code, text):
    print(f"tensorboard.py: {text}", file=sys.stderr)
    sys.exit(code)


def open_writer(folder):
    """The writer of whichever package is there: a function of name, number, step and time, and one
    that makes what was written readable."""
    try:
        from tensorboard.summary import Writer
        writer = Writer(folder)

        def add(name, value, step, when):
            writer.add_scalar(name, value, step, wall_time=when)
    except ImportError:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            fail(EX_UNAVAILABLE, "no TensorBoard for this Python: python3 -m pip install "
                 "tensorboard (in a virtual environment: python3 -m venv ENV; ENV/bin/pip install "
                 "tensorboard; ENV/bin/python scripts/tensorboard.py RUN)")
        writer = SummaryWriter(folder)

        def add(name, value, step, when):
            writer.add_scalar(name, value, step, walltime=when)
    return add, writer.flush


class Follower:
    """The whole lines of a log. If it is followed, there are more of them until stop() is called, and
    also from a file that took the place of the first one, as it does when a run goes on."""

    def __init__(self, path, follow, idle):
        self.path, self.follow, self.idle = path, follow, idle
        self.log = open(path, "rb")

    def stop(self, *_):
        self.follow = False

    def is_replaced(self):
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        return there.st_ino != os.fstat(self.log.fileno()).st_ino or there.st_size < self.log.tell()

    def lines(self):
        rest = b""
        while True:
            new = self.log.readline()
            rest += new
            if rest.endswith(b"\n"):
                yield rest
                rest = b""
            elif not new and self.is_replaced():
                self.log.close()
                self.log = open(self.path, "rb")
                rest = b""
            elif not new and not self.follow:
                return
            elif not new:
                self.idle()
                time.sleep(0.5)


def seconds_of(line):
    """The time of an event since 1970, or now for logs that have none."""
    text = line.get("time")
    if not isinstance(text, str):
        return time.time()
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Converter:
    """Writes each step and evaluation once. A run that goes on may log some of them again."""

    def __init__(self, add):
        self.add = add
        self.last = {"step": 0, "evaluation": 0}
        self.count = {"step": 0, "evaluation": 0}

    def take(self, text):
        try:
            line = json.loads(text)
            event, step = line["event"], int(line["step"])
        except (ValueError, KeyError, TypeError):
            return  # a start, or a line that is damaged
        if step <= self.last.get(event, step):
            return
        self.last[event] = step
        self.count[event] += 1
        when = seconds_of(line)
        for name, part, field in STEP if event == "step" else EVALUATION:
            value = (line.get(part) or {} if part else line).get(field)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self.add(name, value, step, when)


def prepare(run, out):
    """Makes the folder of the events, without those of an earlier call."""
    folder = out or os.path.join(run, "tensorboard")
    old = glob.glob(os.path.join(glob.escape(folder), EVENTS))
    if old and out:
        fail(EX_CANTCREAT, f"{out}: holds events already; remove them or name another folder")
    try:
        for file in old:
            os.remove(file)
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        fail(EX_CANTCREAT, f"{folder}: {error.strerror}")
    return folder


def main():
    parser = argparse.ArgumentParser(prog="tensorboard.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: fail(EX_USAGE, message)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--out", metavar="DIR")
    parser.add_argument("--follow", action="store_true")
    asked = parser.parse_args()
    path = os.path.join(asked.run, "log.jsonl")
    if not os.path.isfile(path):
        fail(EX_NOINPUT, f"{path}: no such file: is {asked.run} the folder of a run?")
    folder = prepare(asked.run, asked.out)
    add, flush = open_writer(folder)
    converter = Converter(add)
    follower = Follower(path, asked.follow, flush)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, follower.stop)
    for line in follower.lines():
        converter.take(line)
    flush()
    done = converter.count
    print(f"{folder}: {done['step']} steps, {done['evaluation']} evaluations; "
          f"tensorboard --logdir {folder}")


if __name__ == "__main__":
    main()
