"""Trainings side by side, what they gave, and the best of them."""
import json
import math
import os
import statistics
import subprocess
import sys
import time

from plan import LENGTHS, PlanError

STOPPED_AND_SAVED = 75
# Steps of the shorter run that measures a network, by how many more the longer one has at least, and
# how often both are run. The fastest count, as they were disturbed least.
MEASURED_STEPS, MORE_STEPS, ROUNDS = 20, 60, 3


def value_text(value):
    return value if isinstance(value, str) else json.dumps(value)


class Runs:
    def __init__(self, plan, deq, out, threads):
        self.plan, self.deq, self.out, self.threads = plan, deq, out, threads
        os.makedirs(os.path.join(out, "runs"), exist_ok=True)

    # --- one run -----------------------------------------------------------------------------

    def folder(self, run):
        return os.path.join(self.out, "runs", run.name)

    def source(self, data):
        p = self.plan
        words = ["--config", p.config] if p.config is not None else ["--preset", p.preset]
        return words + (["--data", data] if data is not None else [])

    def settings(self, keys):
        return [word for key, value in keys.items()
                for word in ("--set", "%s=%s" % (key, value_text(value)))]

    def result(self, run):
        """What a run gave that has ended, or None."""
        try:
            with open(os.path.join(self.folder(run), "result.json")) as f:
                kept = json.load(f)
        except FileNotFoundError:
            return None
        if kept["keys"] != run.keys or kept.get("data", run.data) != run.data:
            raise PlanError("%s was trained with other settings than the plan has now; remove it, "
                            "or name another folder by --out" % self.folder(run))
        return kept

    def ask(self, words):
        done = subprocess.run([self.deq] + words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True)
        if done.returncode != 0:
            raise PlanError("deq %s: %s" % (" ".join(words), done.stderr.strip()[-600:]))
        return json.loads(done.stdout.strip().splitlines()[-1])

    def start(self, run):
        folder = self.folder(run)
        os.makedirs(folder, exist_ok=True)
        # Beside the folder of deq, which is its own.
        log = open(os.path.join(folder, "output"), "a")
        words = ["train", "-q"] + self.source(run.data) + self.settings(run.keys)
        words += ["--out", os.path.join(folder, "run"), "--threads", str(self.threads)]
        # In a session of its own: Ctrl-C reaches this program alone, which then asks each training
        # once to save.
        return subprocess.Popen([self.deq] + words, stdout=log, stderr=log,
                                start_new_session=True)

    def spent(self, run, seconds=0.0):
        """Adds processor seconds to those that earlier starts of this run took."""
        path = os.path.join(self.folder(run), "seconds")
        before = 0.0
        if os.path.exists(path):
            with open(path) as f:
                before = float(f.read())
        if seconds > 0:
            with open(path + ".new", "w") as f:
                f.write("%.6f" % (before + seconds))
            os.replace(path + ".new", path)
        return before + seconds

    def finish(self, run, seconds):
        """Writes result.json of a training that ended."""
        folder = os.path.join(self.folder(run), "run")
        result = {"keys": run.keys, "data": run.data, "network": run.network, "point": run.point,
                  "seed": run.seed, "seconds": seconds}
        info = self.ask(["info", folder, "--json"])
        state = info["state"]
        result.update(parameters=info["parameters"], by_part=info["parameters_by_part"],
                      tokens=state["tokens"], best_step=state["best_step"],
                      valid_nll=state["best_nll"], valid_bits=state["best_bits_per_byte"],
                      training_share=self.training_share(folder, state["seconds"]))
        if run.name.startswith(("final", "time")):
            words = ["eval", folder, "--split", self.plan.split, "--json", "--threads",
                     str(self.threads)]
            test = self.ask(words)
            result.update(test_nll=test["nll"], test_unknown=test["unknown"],
                          test_tokens=test["tokens"], leak=test["leak"],
                          bits_per_byte=test.get("bits_per_byte"))
        self.keep(run, result)

    def training_share(self, folder, training):
        """The share of a run's time that its steps took, and not its evaluations."""
        evaluating = 0.0
        with open(os.path.join(folder, "log.jsonl")) as f:
            for line in f:
                event = json.loads(line)
                if event.get("event") == "evaluation":
                    evaluating += event["seconds"]
        return training / (training + evaluating) if training > 0 else 1.0

    def keep(self, run, result):
        path = os.path.join(self.folder(run), "result.json")
        with open(path + ".new", "w") as f:
            json.dump(result, f, indent=1)
        os.replace(path + ".new", path)

    def failed(self, run, code):
        """A training that broke down counts as the worst. Any other failure is told."""
        with open(os.path.join(self.folder(run), "output")) as f:
            text = f.read().strip()[-800:]
        if "finite gradient" not in text:
            raise PlanError("%s: deq train ended with exit code %d:\n%s" % (run.name, code, text))
        self.keep(run, {"keys": run.keys, "data": run.data, "network": run.network,
                        "point": run.point, "seed": run.seed, "seconds": self.spent(run), "broke_down": text})

    # --- many --------------------------------------------------------------------------------

    def train(self, todo, jobs):
        """Trains what has no result yet, `jobs` at a time."""
        waiting = [r for r in todo if self.result(r) is None]
        done, total = len(todo) - len(waiting), len(todo)
        children = {}
        try:
            while waiting or children:
                while waiting and len(children) < jobs:
                    run = waiting.pop(0)
                    child = self.start(run)
                    children[child.pid] = (run, child)
                pid, status, usage = os.wait4(-1, 0)
                if pid not in children:
                    continue
                run, child = children.pop(pid)
                child.returncode = os.waitstatus_to_exitcode(status)
                self.ended(run, child.returncode, usage)
                done += 1
                print("%s %d of %d: %s" % (time.strftime("%H:%M:%S"), done, total, run.name),
                      file=sys.stderr, flush=True)
        finally:
            self.stop(children)

    def ended(self, run, code, usage):
        seconds = self.spent(run, usage.ru_utime + usage.ru_stime)
        if code == 0:
            self.finish(run, seconds)
        elif code == STOPPED_AND_SAVED or code < 0:
            raise PlanError("%s was stopped; start the same command again" % run.name)
        else:
            self.failed(run, code)

    def stop(self, children):
        """Asks trainings to save and end, and counts their time."""
        for _, child in children.values():
            child.terminate()
        for pid, (run, child) in children.items():
            _, status, usage = os.wait4(pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            self.spent(run, usage.ru_utime + usage.ru_stime)

    # --- what came of it ---------------------------------------------------------------------

    def resolved(self, network):
        """What deq plan says of a network, whose `setting` has every key."""
        run = self.plan.search_runs(network)[0]
        return self.ask(["plan", "--device", "h100", "--json"] + self.source(run.data) +
                        self.settings(run.keys))

    def check_parameters(self):
        """Refuses networks whose sizes differ by more than the plan allows."""
        within = self.plan.parameters_within
        count = {name: self.resolved(name)["parameters"] for name in self.plan.networks}
        low, high = min(count, key=count.get), max(count, key=count.get)
        if within is not None and count[high] > count[low] * (1 + within):
            raise PlanError("%s has %d parameters and %s has %d, more than %g %% apart; make them "
                            "equal, or say parameters_within in the plan"
                            % (high, count[high], low, count[low], 100 * within))

    def steps_path(self):
        return os.path.join(self.out, "runs", "steps.json")

    def load_steps(self):
        """Gives every network the steps that were measured. Returns whether all were."""
        if not os.path.exists(self.steps_path()):
            return False
        with open(self.steps_path()) as f:
            kept = json.load(f)
        if kept["seconds"] != self.plan.seconds:
            raise PlanError("%s was measured for %g seconds a run, and the plan says %g now; name another folder "
                            "by --out" % (self.steps_path(), kept["seconds"], self.plan.seconds))
        self.plan.lengths = {name: kept["networks"][name]["keys"] for name in self.plan.networks
                             if name in kept["networks"]}
        return len(self.plan.lengths) == len(self.plan.networks)

    def measure(self, jobs):
        """Finds how many steps of each network take the seconds of the plan. Two short runs differ
        in their steps alone, so that what a start costs falls out of the difference."""
        if self.load_steps():
            return
        plan = self.plan
        plan.lengths = {}
        bases = {name: self.resolved(name)["setting"]["train"] for name in plan.networks}
        first = self.timed(bases, {name: MEASURED_STEPS for name in bases}, jobs)
        # The longer runs take a quarter of the time that is wanted, all rounds together.
        share = plan.seconds / 4 / ROUNDS
        more = {name: MEASURED_STEPS + max(MORE_STEPS, round(share / first[name] * MEASURED_STEPS))
                for name in bases}
        second = self.timed(bases, more, jobs)
        networks = {}
        for name, base in bases.items():
            step = (second[name] - first[name]) / (more[name] - MEASURED_STEPS)
            if step <= 0:
                raise PlanError("%s: %d steps took no longer than %d; measure again on a quiet machine"
                                % (name, more[name], MEASURED_STEPS))
            steps = max(1, round(plan.seconds / step))
            networks[name] = {"step_seconds": step, "keys": self.scaled(base, steps)}
        with open(self.steps_path() + ".new", "w") as f:
            json.dump({"seconds": plan.seconds, "networks": networks}, f, indent=1)
        os.replace(self.steps_path() + ".new", self.steps_path())
        self.load_steps()

    def timed(self, bases, steps, jobs):
        """Processor seconds of short runs of each network, side by side as the others will be. Networks take
        turns, so that what else the machine does meets all of them."""
        runs = [{name: self.plan.measured_run(name, steps[name], turn, self.scaled(bases[name], steps[name]))
                 for name in bases} for turn in range(ROUNDS)]
        self.train([run for turn in runs for run in turn.values()], jobs)
        return {name: min(self.result(turn[name])["seconds"] for turn in runs) for name in bases}

    def scaled(self, base, steps):
        """The keys of a training of another length: all that counts steps, in proportion."""
        ratio = steps / base["steps"]
        return {"train." + key: max(1, round(base[key] * ratio)) if base[key] > 0 else 0
                for key in LENGTHS}

    def loss_at(self, network, point):
        """Mean validation loss of a point over the seeds of the search, infinite where one broke
        down, NaN where one is missing."""
        losses = [self.result(r) for r in self.plan.search_runs(network) if r.point == point]
        if any(r is None for r in losses):
            return math.nan
        return statistics.mean(math.inf if r.get("valid_nll") is None else r["valid_nll"]
                               for r in losses)

    def bits_at(self, network, point):
        """The same in bits per byte, None where it has no meaning."""
        kept = [self.result(r) for r in self.plan.search_runs(network) if r.point == point]
        bits = [None if r is None else r.get("valid_bits") for r in kept]
        return None if None in bits else statistics.mean(bits)

    def best(self, network):
        found = [(self.loss_at(network, p), i) for i, p in enumerate(self.plan.points(network))]
        missing = [i for loss, i in found if math.isnan(loss)]
        if missing:
            raise PlanError("%s: %d points of the search have not ended" % (network, len(missing)))
        loss, i = min(found)
        if math.isinf(loss):
            raise PlanError("%s broke down at every point of the search" % network)
        return self.plan.points(network)[i]

    def seconds_of(self, network):
        """Mean processor time of the runs with every seed."""
        runs = self.plan.final_runs(network, self.best(network))
        return statistics.mean(self.result(r)["seconds"] for r in runs)

    def equal_time_runs(self, network):
        """The final runs again, as long as the dearest network takes. The dearest has no others."""
        dearest = max(self.seconds_of(n) for n in self.plan.networks)
        ratio = dearest / self.seconds_of(network)
        if ratio < 1.02:
            return []
        first = self.plan.final_runs(network, self.best(network))[0]
        with open(os.path.join(self.folder(first), "run", "config.json")) as f:
            train = json.load(f)["train"]
        more = self.scaled(train, max(1, round(train["steps"] * ratio)))
        more = {"train." + key: more["train." + key] for key in ("steps", "warmup_steps", "pretrain_steps")}
        point = self.best(network)
        kept = self.kept_ratio(network, more)
        return [self.plan.run("time", network, point, seed, kept) for seed in self.plan.seeds]

    def kept_ratio(self, network, more):
        """What an earlier start chose, so that this one does not train for another length."""
        path = os.path.join(self.out, "runs", "time_%s.json" % network.replace(" ", "-"))
        if not os.path.exists(path):
            with open(path, "w") as f:
                json.dump(more, f)
        with open(path) as f:
            return json.load(f)

    def group(self, runs):
        results = [self.result(r) for r in runs]
        return [r for r in results if r is not None and "test_nll" in r]

    def summary(self):
        """Everything that the table and the plot show."""
        plan, networks = self.plan, {}
        for name in plan.networks:
            points = [dict(point=p, valid_nll=self.loss_at(name, p), valid_bits=self.bits_at(name, p))
                      for p in plan.points(name)]
            entry = {"points": points}
            if not any(math.isnan(p["valid_nll"]) for p in points):
                best = self.best(name)
                entry.update(best=best, at_edge=plan.edges(name, best),
                             final=self.group(plan.final_runs(name, best)))
            networks[name] = entry
        complete = all(len(n.get("final", [])) == len(plan.seeds) for n in networks.values())
        if plan.equal_time and complete:
            for name in plan.networks:
                networks[name]["equal_time"] = self.group(self.equal_time_runs(name))
        return {"title": plan.title, "networks": networks}
