"""The plan of a comparison: networks, the grid that is searched for each, and its runs."""
import itertools
import json

# A grid grows by at most so many values at an edge of a key.
GROWTH = 4
KEYS = {"title": "", "data": None, "config": None, "preset": None, "set": {}, "networks": None,
        "search": None, "search_set": {}, "search_seeds": [1], "seeds": [1, 2, 3],
        "parameters_within": 0.01, "equal_time": False, "seconds": None, "split": "test"}
# Keys that are numbers of steps, which a longer training has more of.
LENGTHS = ("steps", "warmup_steps", "pretrain_steps", "eval_every", "checkpoint_every")


class PlanError(Exception):
    """The plan, or what came of it, does not allow to go on."""


class Run:
    """One training: its folder's name, the network, its data, and the keys that it sets."""

    def __init__(self, name, network, data, keys, point=None, seed=None):
        self.name, self.network, self.data, self.keys = name, network, data, keys
        self.point, self.seed = point, seed


def key_name(key):
    return key.rsplit(".", 1)[-1]


class Plan:
    def __init__(self, path):
        try:
            with open(path) as f:
                values = json.load(f)
        except ValueError as e:
            raise PlanError("%s: %s" % (path, e))
        if not isinstance(values, dict):
            raise PlanError("%s: want a JSON object" % path)
        unknown = sorted(set(values) - set(KEYS))
        if unknown:
            raise PlanError("%s: %s is no key of a plan; the keys are %s"
                            % (path, unknown[0], ", ".join(KEYS)))
        for key, initial in KEYS.items():
            setattr(self, key, values.get(key, initial))
        self.path = path
        self.check()
        # A grid for each network, since each may grow at its own edge.
        self.axes = {name: {k: sorted(v) for k, v in self.search.items()}
                     for name in self.networks}
        self.grown = {}
        # Of each network the keys of LENGTHS with which it takes `seconds`, once they are measured.
        self.lengths = {}

    def check(self):
        if not isinstance(self.networks, dict) or not self.networks:
            raise PlanError("%s: networks: want an object with a name for each network" % self.path)
        if (self.config is None) == (self.preset is None):
            raise PlanError("%s: want either config or preset" % self.path)
        if not isinstance(self.search, dict) or not self.search:
            raise PlanError("%s: search: want an object of keys with the values to try" % self.path)
        for key, tried in self.search.items():
            if not isinstance(tried, list) or not tried:
                raise PlanError("%s: search: %s: want a list of values" % (self.path, key))
        for key in ("seeds", "search_seeds"):
            if not isinstance(getattr(self, key), list) or not getattr(self, key):
                raise PlanError("%s: %s: want a list of numbers" % (self.path, key))
        for name, network in self.networks.items():
            if not isinstance(network, dict) or set(network) - {"set", "data"}:
                raise PlanError("%s: networks: %s: want an object with the keys set and data"
                                % (self.path, name))
        if self.seconds is not None:
            self.check_seconds()

    def check_seconds(self):
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, (int, float)) or self.seconds <= 0:
            raise PlanError("%s: seconds: want a number above 0" % self.path)
        if self.equal_time:
            raise PlanError("%s: seconds gives all runs equal time; leave equal_time out" % self.path)
        own = [network.get("set", {}) for network in self.networks.values()]
        for keys in [self.search, self.search_set] + own:
            for key in LENGTHS:
                if "train." + key in keys:
                    raise PlanError("%s: train.%s follows from seconds; leave it out, or put it into set, where "
                                    "it says a proportion" % (self.path, key))

    @property
    def own_data(self):
        """Whether networks have texts of their own, whose tokens differ."""
        return any("data" in network for network in self.networks.values())

    @property
    def grid(self):
        """The points that the plan names, before any growth."""
        return list(itertools.product(*self.search.values()))

    def keys_of(self, network, point, seed):
        keys = dict(self.set)
        keys.update(self.networks[network].get("set", {}))
        keys.update(self.lengths.get(network, {}))
        keys.update(point)
        keys["train.seed"] = seed
        return keys

    def run(self, stage, network, point, seed, more):
        keys = self.keys_of(network, point, seed)
        keys.update(more)
        words = ["%s%g" % (key_name(k), v) if isinstance(v, (int, float)) else
                 "%s-%s" % (key_name(k), v) for k, v in point.items()]
        name = "_".join([stage, network.replace(" ", "-").replace("/", "-")] + words +
                        ["seed%d" % seed])
        return Run(name, network, self.data_of(network), keys, dict(point), seed)

    def data_of(self, network):
        return self.networks[network].get("data", self.data)

    def measured_run(self, network, steps, turn, scaled):
        """A short run, of which only the time is wanted."""
        keys = dict(scaled, **{"train.eval_every": 0, "train.checkpoint_every": 0})
        run = self.run("measure", network, self.points(network)[0], self.search_seeds[0], keys)
        run.name = "measure_%s_steps%d_%d" % (network.replace(" ", "-").replace("/", "-"), steps, turn)
        return run

    def points(self, network):
        axes = self.axes[network]
        return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]

    def search_runs(self, network):
        return [self.run("search", network, point, seed, self.search_set)
                for point in self.points(network) for seed in self.search_seeds]

    def final_runs(self, network, point):
        return [self.run("final", network, point, seed, {}) for seed in self.seeds]

    def edges(self, network, point):
        """Keys whose best value is the first or last of at least three numbers."""
        return [key for key, values in self.axes[network].items()
                if len(values) > 2 and point[key] in (values[0], values[-1])]

    def grow(self, network, point):
        """Adds a value beyond each edge that the best point lies at. Returns whether it added one."""
        added = False
        for key in self.edges(network, point):
            values = self.axes[network][key]
            at = (network, key)
            if self.grown.get(at, 0) == GROWTH or min(values) <= 0:
                continue
            low = point[key] == values[0]
            step = values[0] / values[1] if low else values[-1] / values[-2]
            new = float("%.3g" % (point[key] * step))
            self.axes[network][key] = [new] + values if low else values + [new]
            self.grown[at] = self.grown.get(at, 0) + 1
            added = True
        return added
