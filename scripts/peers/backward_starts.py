#!/usr/bin/env python3
"""What a start of the backward solve is worth: from the forward solve's history (SHINE, Ramzi et al.
2022), or by a linear map fitted to the solutions of the segments before.

    scripts/peers/backward_starts.py RUN [--segments N] [--fit N] [--threads N]

RUN is a folder that learn.py left for a PyTorch peer (runs/peers/torch). On segments of its
validation text Broyden's method solves z = f(z), from zero, with 13 evaluations of f and once more
with 30. The backward solve then looks for y = J^T y + g, g being the loss's gradient. Starts of it:

    g        as deq does
    SHINE    Broyden's approximate inverse of I - J, transposed, applied to g
    fitted   a linear map of g at this and the next position, the least-squares fit to tight
             solutions y of all segments before, at least --fit of them, under the same weights:
             more than a training could know, whose weights change from step to step

Each is taken as the whole backward solve, and as the start of Anderson's method, a position at a
time. Prints cosine and relative error of the parameters' gradient against that of a tight backward
solve at the same z.
"""
import argparse
import json
import os
import types

import torch
import torch.nn.functional as F

from deq_torch import Model, broyden
from learn_torch import Text

FORWARD = (13, 30)  # evaluations of f
TIGHT = 60  # products of the backward solve that the others are compared with


def anderson(g, start, products, history, ridge=1e-6):
    """y = g(y) at each position by itself, after so many evaluations of g."""
    y, values, residuals = start, [], []
    for _ in range(products):
        value = g(y)
        values, residuals = (values + [value])[-history:], (residuals + [value - y])[-history:]
        r = torch.stack(residuals, -2)
        gram = r @ r.transpose(-1, -2)
        trace = gram.diagonal(dim1=-1, dim2=-2).mean(-1)[..., None, None]
        one = torch.eye(gram.shape[-1])
        a = torch.linalg.solve(gram + (ridge * trace + 1e-30) * one, gram.new_ones(gram.shape[:-1]))
        y = torch.einsum("blm,blmd->bld", a / a.sum(-1, keepdim=True), torch.stack(values, -2))
    return y


class Gradient:
    """Of the loss, at an approximate equilibrium of f."""

    def __init__(self, model, f, z, targets):
        self.parameters, self.z = list(model.parameters()), z.requires_grad_()
        self.out = f(self.z)
        logits = F.linear(self.out, model.table, model.bias)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        self.of_out, = torch.autograd.grad(loss, self.out, retain_graph=True)
        self.direct = self.flat(loss - (self.out * self.of_out).sum(), None)

    def flat(self, what, weights):
        parts = torch.autograd.grad(what, self.parameters, weights, retain_graph=True,
                                    allow_unused=True)
        return torch.cat([(torch.zeros_like(p) if x is None else x).flatten()
                          for x, p in zip(parts, self.parameters)])

    def map(self, y):
        """J^T y and the loss's gradient: y's fixed point is what the solve looks for."""
        return torch.autograd.grad(self.out, self.z, y, retain_graph=True)[0] + self.of_out

    def of_parameters(self, y):
        return self.direct + self.flat(self.out, y)


class Fit:
    """y as a linear map of g at its position and the next, over all that was added so far."""

    def __init__(self, width):
        self.xx, self.xy = torch.zeros(2 * width, 2 * width), torch.zeros(2 * width, width)

    @staticmethod
    def inputs(g):
        return torch.cat([g, F.pad(g[:, 1:], (0, 0, 0, 1))], 2)

    def add(self, g, y):
        x = self.inputs(g).flatten(0, 1)
        self.xx += x.T @ x
        self.xy += x.T @ y.flatten(0, 1)

    def map(self, g):
        ridge = 1e-4 * self.xx.diagonal().mean() * torch.eye(len(self.xx))
        return self.inputs(g) @ torch.linalg.solve(self.xx + ridge, self.xy)


def shine(g, history):
    u, v = history
    flat = g.flatten(1)[:, None]
    return (flat - flat @ u.transpose(1, 2) @ v).view_as(g)


def ways(gradient, starts):
    """(name, y) of each way of going back."""
    for name, start in starts.items():
        for n in range(7):
            yield "%s, %d products" % (name, n), anderson(gradient.map, start, n, 3)


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run")
    p.add_argument("--segments", type=int, default=4)
    p.add_argument("--fit", type=int, default=16)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    with open(os.path.join(a.run, "config.json")) as f:
        config = json.load(f)
    m, train = config["model"], config["train"]
    text = Text(config["data"]["dir"], "valid", train)
    model = Model(types.SimpleNamespace(
        peer="torch", vocab=text.vocab, width=m["d_model"], heads=m["n_head"], inner=m["d_inner"],
        memory=train["mem_len"], dropout=0.0, std=m["init_std"], forward=13, backward=12,
        eval_forward=13, precision="fp32"))
    model.load_state_dict(torch.load(os.path.join(a.run, "best.pt")))
    sums, fit = {}, {n: Fit(m["d_model"]) for n in FORWARD}
    for k in range(a.fit + a.segments):
        inputs, targets = text.batch(k)
        e = F.embedding(inputs, model.table) * model.a.width ** 0.5
        f, u = model.block.begin(e, model.memory)
        for evaluations in FORWARD:
            history = []
            with torch.no_grad():
                z = broyden(f, torch.zeros_like(e), None, evaluations, history)
            g = Gradient(model, f, z, targets)
            tight = anderson(g.map, g.of_out, TIGHT, 5)
            if k >= a.fit:
                exact = g.of_parameters(tight).double()
                starts = {"g": g.of_out, "SHINE": shine(g.of_out, history),
                          "fitted": fit[evaluations].map(g.of_out)}
                for name, y in ways(g, starts):
                    x = g.of_parameters(y).double()
                    cosine = x @ exact / (x.norm() * exact.norm())
                    sums.setdefault(name, {}).setdefault(evaluations, []).append(
                        (cosine.item(), ((x - exact).norm() / exact.norm()).item()))
            fit[evaluations].add(g.of_out, tight)
        with torch.no_grad():
            model.remember(f(z), u)
    print("%-24s" % "evaluations of f" + "".join("%16d" % n for n in FORWARD))
    for name, by in sums.items():
        means = [torch.tensor(by[n]).mean(0) for n in FORWARD]
        print("%-24s" % name + "".join("%9.4f %6.3f" % tuple(x) for x in means))


if __name__ == "__main__":
    main()
