"""Trainings side by side, what they gave, and the best of them."""
import json
import math
import os
import statistics
import subprocess
import sys
import time

from plan import PlanError

STOPPED_AND_SAVED = 75


def value_text(value):
    return value if isinstance(value, str) else json.dumps(value)


class Runs:
    def __init__(self, plan, deq, out, threads):
        self.plan, self.deq, self.out, self.threads = plan, deq, out, threads
        os.makedirs(os.path.join(out, "runs"), exist_ok=True)

    # --- one run -----------------------------------------------------------------------------

    def folder(self, run):
        return os.path.join(self.out, "runs", run.name)

    def source(self):
        p = self.plan
        words = ["--config", p.config] if p.config is not None else ["--preset", p.preset]
        return words + (["--data", p.data] if p.data is not None else [])

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
        if kept["keys"] != run.keys:
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
        words = ["train", "-q"] + self.source() + self.settings(run.keys)
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
        result = {"keys": run.keys, "network": run.network, "point": run.point, "seed": run.seed,
                  "seconds": seconds}
        info = self.ask(["info", folder, "--json"])
        state = info["state"]
        result.update(parameters=info["parameters"], by_part=info["parameters_by_part"],
                      tokens=state["tokens"], best_step=state["best_step"],
                      valid_nll=state["best_nll"])
        if run.name.startswith(("final", "time")):
            words = ["eval", folder, "--split", self.plan.split, "--json", "--threads",
                     str(self.threads)]
            test = self.ask(words)
            result.update(test_nll=test["nll"], test_unknown=test["unknown"],
                          test_tokens=test["tokens"], leak=test["leak"],
                          bits_per_byte=test.get("bits_per_byte"))
        self.keep(run, result)

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
        self.keep(run, {"keys": run.keys, "network": run.network, "point": run.point,
                        "seed": run.seed, "seconds": self.spent(run), "broke_down": text})

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

    def check_parameters(self):
        """Refuses networks whose sizes differ by more than the plan allows."""
        within, count = self.plan.parameters_within, {}
        for name in self.plan.networks:
            keys = self.plan.search_runs(name)[0].keys
            count[name] = self.ask(["plan", "--device", "h100", "--json"] + self.source() +
                                   self.settings(keys))["parameters"]
        low, high = min(count, key=count.get), max(count, key=count.get)
        if within is not None and count[high] > count[low] * (1 + within):
            raise PlanError("%s has %d parameters and %s has %d, more than %g %% apart; make them "
                            "equal, or say parameters_within in the plan"
                            % (high, count[high], low, count[low], 100 * within))

    def loss_at(self, network, point):
        """Mean validation loss of a point over the seeds of the search, infinite where one broke
        down, NaN where one is missing."""
        losses = [self.result(r) for r in self.plan.search_runs(network) if r.point == point]
        if any(r is None for r in losses):
            return math.nan
        return statistics.mean(math.inf if r.get("valid_nll") is None else r["valid_nll"]
                               for r in losses)

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
        more = {"train." + key: max(1, round(train[key] * ratio)) if train[key] > 0 else 0
                for key in ("steps", "warmup_steps", "pretrain_steps")}
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
            points = [dict(point=p, valid_nll=self.loss_at(name, p)) for p in plan.points(name)]
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
