#!/usr/bin/env python3
"""Compares two reports of scripts/gpu-check.sh.

Prints for each step its results, for benches tokens/s and the milliseconds of each operation in a
step, and for comparisons of losses the worst difference. Exits with 1 if a step passed before and
does not now, or if a bench has become slower by more than --slack percent.
"""

import argparse
import json
import sys


class Wrong(Exception):
    """A report that cannot be read, with the exit code for it."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def read(path):
    """The report, and its steps by name."""
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        steps = {step["name"]: step for step in report["steps"]}
    except OSError as error:
        raise Wrong(66, f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Wrong(65, f"{path}: no report of gpu-check.sh ({error})") from error
    return report, steps


def describe(report):
    cut = "" if report.get("complete") else ", cut short"
    return f"{report.get('gpu')}, CUDA {report.get('toolkit')}, {report.get('version')}{cut}"


def change(before, after):
    """By how many percent a number has grown, or None."""
    if not before or after is None:
        return None
    return 100 * (after - before) / before


def line(name, before, after, form):
    """A row of two numbers and the change from one to the other."""
    percent = change(before, after)
    texts = ["-" if x is None else format(x, form) for x in (before, after)]
    return f"  {name:24} {texts[0]:>12} {texts[1]:>12} {'' if percent is None else f'{percent:+9.1f} %'}"


def per_step(output):
    """Milliseconds of each operation in a step."""
    steps = output.get("steps") or 1
    return {op["name"]: 1e3 * op["seconds"] / steps for op in output.get("ops") or []}


def compare_outputs(before, after):
    """Rows for what both steps have printed."""
    rows = []
    for key, form in (
        ("tokens_per_s", ".0f"),
        ("product_fraction", ".3f"),
        ("product_gflops", ".0f"),
        ("copy_gbytes_per_s", ".0f"),
        ("peak_bytes", ".3g"),
        ("worst_relative_difference", ".2g"),
    ):
        if key in before or key in after:
            rows.append(line(key, before.get(key), after.get(key), form))
    old, new = per_step(before), per_step(after)
    names = sorted(old.keys() | new.keys(), key=lambda n: -max(old.get(n, 0), new.get(n, 0)))
    rows += [line(f"{name}, ms", old.get(name), new.get(name), ".3f") for name in names[:12]]
    return rows


def compare(before, after, slack):
    """Prints all rows. Returns what has become worse, a line each."""
    worse = []
    for name in list(before) + [n for n in after if n not in before]:
        old, new = before.get(name, {}), after.get(name, {})
        results = [step.get("result", "missing") for step in (old, new)]
        first, second = old.get("output") or {}, new.get("output") or {}
        print(f"{name}: {results[0]}, {results[1]}")
        for row in compare_outputs(first, second):
            print(row)
        if results[0] == "passed" and results[1] != "passed":
            worse.append(f"worse: {name} ({results[0]}, then {results[1]})")
        if not name.startswith("bench"):
            continue
        percent = change(first.get("tokens_per_s"), second.get("tokens_per_s"))
        if percent is not None and percent < -slack:
            worse.append(f"slower: {name} ({percent:+.1f} %)")
    return worse


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", help="the earlier report")
    parser.add_argument("after", help="the later one")
    parser.add_argument(
        "--slack", type=float, default=5, metavar="PERCENT", help="what may be lost (default 5)"
    )
    options = parser.parse_args()
    try:
        (first, before), (second, after) = read(options.before), read(options.after)
    except Wrong as wrong:
        print(f"gpu_compare.py: {wrong}", file=sys.stderr)
        return wrong.code
    print(f"before: {describe(first)}\nafter:  {describe(second)}")
    worse = compare(before, after, options.slack)
    print("\n".join(worse) if worse else "nothing is worse")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
