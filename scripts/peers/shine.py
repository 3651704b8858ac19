#!/usr/bin/env python3
"""What the forward solve's history is worth to the backward one (SHINE, Ramzi et al. 2022).

    scripts/peers/shine.py RUN [--segments N] [--threads N]

RUN is a folder that learn.py left for a PyTorch peer (runs/peers/torch). On segments of its
validation text Broyden's method solves z = f(z), from zero, with 13 evaluations of f and once more
with 30; its approximate inverse of I - J, transposed, is then applied to the loss's gradient: as
the whole backward solve (SHINE), or as the start of Anderson's method, a position at a time, which
else starts from the gradient. Prints cosine and relative error of the parameters' gradient against
that of a tight backward solve at the same z.
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
WARM = 2  # segments that fill the memory


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


def ways(gradient, history):
    """(name, y) of each way of going back."""
    plain = gradient.of_out
    u, v = history
    flat = plain.flatten(1)[:, None]
    shine = (flat - flat @ u.transpose(1, 2) @ v).view_as(plain)
    yield "one-step", plain
    yield "SHINE", shine
    for n in range(1, 7):
        yield "anderson %d" % n, anderson(gradient.map, plain, n, 3)
        yield "anderson %d from SHINE" % n, anderson(gradient.map, shine, n, 3)


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run")
    p.add_argument("--segments", type=int, default=4)
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
    sums = {}
    for k in range(WARM + a.segments):
        inputs, targets = text.batch(k)
        e = F.embedding(inputs, model.table) * model.a.width ** 0.5
        f, u = model.block.begin(e, model.memory)
        for evaluations in FORWARD:
            history = []
            with torch.no_grad():
                z = broyden(f, torch.zeros_like(e), None, evaluations, history)
            if k < WARM:
                continue
            g = Gradient(model, f, z, targets)
            exact = g.of_parameters(anderson(g.map, g.of_out, TIGHT, 5))
            for name, y in ways(g, history):
                x = g.of_parameters(y)
                cosine = x @ exact / (x.norm() * exact.norm())
                sums.setdefault(name, {}).setdefault(evaluations, []).append(
                    (cosine.item(), ((x - exact).norm() / exact.norm()).item()))
        with torch.no_grad():
            model.remember(f(z), u)
    print("%-24s" % "evaluations of f" + "".join("%16d" % n for n in FORWARD))
    for name, by in sums.items():
        means = [torch.tensor(by[n]).mean(0) for n in FORWARD]
        print("%-24s" % name + "".join("%9.4f %6.3f" % tuple(x) for x in means))


if __name__ == "__main__":
    main()
