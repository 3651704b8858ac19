#!/usr/bin/env python3
"""Compares networks fairly: each at the best settings that one and the same search finds for it.

    scripts/sweep/sweep.py PLAN.json [--out DIR] [--jobs N] [--threads N]
    scripts/sweep/sweep.py PLAN.json --count search|final     how many runs a stage has
    scripts/sweep/sweep.py PLAN.json --stage search|final --task K     one of them, from 0
    scripts/sweep/sweep.py PLAN.json --measure                how many steps take the plan's "seconds"
    scripts/sweep/sweep.py PLAN.json --table                  the table of what there is

Every network of the plan is trained at every point of the grid. The point with the lowest validation
loss is its best. There it is trained with every seed, and the test text is evaluated. Where the best
point lies at an edge of the grid, the grid grows by one more value, in proportion, so that the best
is not cut off. With "equal_time" the networks that are cheaper than the dearest one train once more,
for so many steps that all take the same processor time. With "seconds" every run takes so much of it
from the start: short runs measure what a step of each network takes.

The plan is a JSON object (scripts/sweep/README.md explains its keys; kjv.json is an example).
Runs that ended are not repeated, and one that was stopped goes on where it was: start the same
command again. DIR, the plan's name without .json by default, receives runs/, results.json, table.md
and, with gnuplot, rates.svg. Only the standard library and the deq program are needed (DEQ names it;
default: build/deq). Exits with 1 where a best point still lies at an edge, and with 75 when it was
stopped."""
import argparse
import json
import os
import shutil
import signal
import sys

from plan import Plan, PlanError
from runs import Runs
from table import draw, table

HERE = os.path.dirname(os.path.abspath(__file__))


def arguments():
    p = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter,
                                description=__doc__)
    p.add_argument("plan")
    p.add_argument("--out", help="folder of results")
    p.add_argument("--jobs", type=int, help="runs side by side (default: cores / threads)")
    p.add_argument("--threads", type=int, default=1, help="threads of a run (default: 1)")
    p.add_argument("--count", choices=["search", "final"])
    p.add_argument("--stage", choices=["search", "final"])
    p.add_argument("--task", type=int)
    p.add_argument("--measure", action="store_true", help="only measures steps, before tasks of a plan with seconds")
    p.add_argument("--table", action="store_true", help="trains nothing")
    a = p.parse_args()
    if (a.stage is None) != (a.task is None):
        p.error("--stage and --task belong together")
    return a


def search(plan, runs, jobs):
    """Trains the grid of every network, and grows it until no best point lies at an edge."""
    while True:
        runs.train([r for name in plan.networks for r in plan.search_runs(name)], jobs)
        grown = [plan.grow(name, runs.best(name)) for name in plan.networks]
        if not any(grown):
            return


def finish(plan, runs, jobs):
    """Trains every network at its best point with every seed, and then for equal time."""
    runs.train([r for name in plan.networks for r in plan.final_runs(name, runs.best(name))], jobs)
    if plan.equal_time:
        runs.train([r for name in plan.networks for r in runs.equal_time_runs(name)], jobs)


def one_task(plan, runs, stage, task):
    names = list(plan.networks)
    if stage == "search":
        todo = [r for name in names for r in plan.search_runs(name)]
    else:
        todo = [r for name in names for r in plan.final_runs(name, runs.best(name))]
    if not 0 <= task < len(todo):
        raise PlanError("--task: stage %s has the runs 0 to %d" % (stage, len(todo) - 1))
    runs.train([todo[task]], 1)


def write_results(plan, runs, out):
    results = runs.summary()
    with open(os.path.join(out, "results.json"), "w") as f:
        json.dump(results, f, indent=1)
    text = table(plan, results)
    with open(os.path.join(out, "table.md"), "w") as f:
        f.write(text)
    if shutil.which("gnuplot"):
        draw(plan, results, os.path.join(out, "rates.svg"))
    print(text, end="")
    return not any(entry.get("at_edge") for entry in results["networks"].values())


def main():
    a = arguments()
    # A signal that ends this program must end its trainings too, which save first.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(75))
    try:
        deq = os.environ.get("DEQ", os.path.join(HERE, "../../build/deq"))
        plan = Plan(a.plan)
        out = a.out or os.path.basename(a.plan).rsplit(".json", 1)[0]
        runs = Runs(plan, deq, out, a.threads)
        if a.count:
            counts = {"search": len(plan.grid) * len(plan.search_seeds), "final": len(plan.seeds)}
            print(counts[a.count] * len(plan.networks))
            return
        jobs = a.jobs or max(1, len(os.sched_getaffinity(0)) // a.threads)
        measured = plan.seconds is None or runs.load_steps()
        if a.task is not None:
            if not measured:
                raise PlanError("the steps of each network have not been measured: --measure does it")
            runs.check_parameters()
            one_task(plan, runs, a.stage, a.task)
            return
        if not a.table:
            runs.check_parameters()
            if not measured:
                runs.measure(jobs)
            if a.measure:
                return
            search(plan, runs, jobs)
            finish(plan, runs, jobs)
        if not write_results(plan, runs, out):
            sys.exit(1)
    except (PlanError, OSError) as e:
        sys.exit("sweep.py: %s" % e)
    except KeyboardInterrupt:
        sys.exit(75)


main()
