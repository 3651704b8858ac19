"""Fixed points z = f(z) over [B,T,W] by Picard, Anderson and Broyden iteration, as deq finds them.

Every position has its own mixing weights, residual and best iterate. The scope says over which
positions the inner products behind them are summed.

    token     the position itself
    prefix    positions up to it, each counting less by the factor `decay`; with `reverse`, those
              from it on
    sequence  the whole sequence
    batch     weights by sequence, one stop for the whole batch, as published
"""
import math

import torch

BROYDEN_GAIN = 100000  # a step is not stretched by more than this
STAGNANT = 30  # iterations that the published rule for a batch looks back


def scope_sum(x, scope, decay, reverse):
    """Sums x [B,T,C] over the scope of every position."""
    if scope == "token":
        return x
    if scope == "sequence":
        return x.sum(1, keepdim=True).expand_as(x)
    if scope == "batch":
        return x.sum((0, 1), keepdim=True).expand_as(x)
    t = torch.arange(x.shape[1], device=x.device)
    back = t[:, None] - t[None, :]
    weight = torch.where(back >= 0, decay ** back.clamp(min=0).to(x.dtype), 0)
    return (weight.T if reverse else weight) @ x


def double(x):
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


class Picard:
    """z <- (1 - beta) z + beta f(z)"""

    floor = 1e-9  # added to |f| in a relative residual, as published
    leaves_ended = True

    def __init__(self, settings, reverse):
        self.damping = settings["damping"]

    def advance(self, k, z, f, g, active):
        return z + self.damping * g


class Anderson:
    """The combination of the last evaluations whose residuals cancel best."""

    floor = 1e-5
    leaves_ended = True

    def __init__(self, settings, reverse):
        self.settings, self.reverse = settings, reverse
        self.f, self.g, self.gram, self.length = [], [], None, None

    def place(self, k, f, g):
        m = self.settings["history"]
        if len(self.f) < m:
            self.f.append(f)
            self.g.append(g)
        else:
            self.f[k % m], self.g[k % m] = f, g

    def weights(self, dots, slot, count, active):
        """The mixing weights [B,T,count] from the newest residual's products."""
        m = self.settings["history"]
        if self.gram is None:
            self.gram = dots.new_zeros(*dots.shape[:2], m, m)
            self.length = dots.new_zeros(dots.shape[:2], dtype=torch.long)
        self.gram[..., slot, :count] = dots
        self.gram[..., :count, slot] = dots
        self.length = torch.where(active, (self.length + 1).clamp(max=count), self.length)
        age = [(slot - i) % count for i in range(count)]  # slots, the newest first
        gram = self.gram[..., age, :][..., age].clone()
        known = torch.arange(count, device=dots.device) < self.length[..., None]
        gram *= known[..., None] * known[..., None, :]
        trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
        ridge = self.settings["ridge"]
        if self.settings["ridge_mode"] == "rel":
            ridge = ridge * trace / self.length.clamp(min=1)
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        diagonal += torch.where(known, torch.as_tensor(ridge, dtype=gram.dtype,
                                                       device=gram.device).expand(
            trace.shape)[..., None], 1)
        alpha, info = torch.linalg.solve_ex(gram, known[..., None].to(gram.dtype))
        alpha = alpha[..., 0] / alpha.sum((-2, -1))[..., None]
        bad = (info != 0) | ~alpha.isfinite().all(-1)
        newest = torch.zeros_like(alpha)
        newest[..., 0] = 1
        alpha = torch.where(bad[..., None], newest, alpha)
        self.length = torch.where(bad & active, 1, self.length)
        out = torch.empty_like(alpha)
        out[..., age] = alpha
        return out

    def advance(self, k, z, f, g, active):
        s = self.settings
        self.place(k, f, g)
        count, slot = len(self.f), k % s["history"]
        hist = torch.stack(self.g)
        dots = double(torch.einsum("btw,kbtw->btk", g, hist)) * active[..., None]
        scope = "sequence" if s["scope"] == "batch" else s["scope"]
        dots = scope_sum(dots, scope, s["decay"], self.reverse)
        alpha = self.weights(dots, slot, count, active).to(z.dtype)
        values = torch.stack(self.f)
        if s["damping"] != 1:
            values = values - (1 - s["damping"]) * hist
        return torch.einsum("btk,kbtw->btw", alpha, values)


class Broyden:
    """Good Broyden for g(z) = f(z) - z, all of whose inverse Jacobian is told by its steps."""

    floor = 1e-9
    leaves_ended = False

    def __init__(self, settings, reverse):
        self.settings, self.reverse = settings, reverse
        self.steps, self.gram = [], {}

    def coefficients(self, g):
        """Factors [B,T,k] of the steps so far, and of g, in the next step."""
        s, count = self.settings, len(self.steps)
        hist = torch.stack(self.steps)
        dots = double(torch.stack([torch.einsum("btw,kbtw->btk", x, hist)
                                   for x in (g, self.steps[-1])], 2))
        scope = "sequence" if s["scope"] == "batch" else s["scope"]
        dots = scope_sum(dots.flatten(2), scope, s["decay"], self.reverse).view_as(dots)
        self.gram[count - 1] = dots[:, :, 1]  # with step 0, 1, ..., count - 1
        rho = dots.new_zeros(dots.shape[:2])
        coef = []
        for j in range(count):
            row, total = self.gram[j], dots[:, :, 0, j]
            if j > 0:
                total = total + (torch.stack(coef, -1) * row[..., :j]).sum(-1)
            before, rho = rho, rho + total / row[..., j]
            good = rho.isfinite() | (row[..., j] == 0)
            rho = torch.where(rho.isfinite(), rho, 0)
            coef.append(before)
        scale = 1 / (1 - rho)
        good &= scale.abs() <= BROYDEN_GAIN
        coef = torch.stack(coef, -1)
        good &= (coef * scale[..., None]).isfinite().all(-1)
        scale = torch.where(good, scale, 1)
        return (coef * scale[..., None]).to(g.dtype), scale.to(g.dtype)

    def advance(self, k, z, f, g, active):
        if len(self.steps) > self.settings["history"]:
            self.steps, self.gram = [], {}
        if not self.steps:
            step = g
        else:
            coef, scale = self.coefficients(g)
            step = torch.einsum("btk,kbtw->btw", coef, torch.stack(self.steps))
            step = step + scale[..., None] * g
        step = torch.where(active[..., None], step, 0)
        self.steps.append(step)
        return z + step


METHODS = {"picard": Picard, "anderson": Anderson, "broyden": Broyden}


def stagnant(totals, settings, floor):
    """The published rule for a whole batch: nearly converged, and flat for 30 iterations."""
    if settings["scope"] != "batch" or len(totals) <= STAGNANT:
        return False
    last = torch.stack(totals[-STAGNANT:]).sqrt()
    residual = last[:, 0] if settings["stop"] == "abs" else last[:, 0] / (last[:, 1] + floor)
    return bool(residual[-1] < 3 * settings["tol"] and residual.max() / residual.min() < 1.3)


@torch.no_grad()
def solve(f, z, settings, reverse=False, f0=None):
    """The best iterate [B,T,W] from z on, f there, and what it took. f0 is f(z) if it is known."""
    s = settings
    if s.get("line_search"):
        raise NotImplementedError("solver.*.line_search: this module has no line search; set it "
                                  "to false in config.deq")
    method = METHODS[s["method"]](s, reverse)
    fixed, tol = s["stop"] == "fixed", s["tol"]
    diverge = z.shape[1] * (1e6 if s["stop"] == "abs" else 1e3)
    best_z, best_f = z, z
    shape = z.shape[:2]
    best = double(z.new_full(shape, math.inf))
    best_at = torch.zeros(shape, dtype=torch.long, device=z.device)
    evaluations = torch.zeros_like(best_at)
    active = torch.ones(shape, dtype=torch.bool, device=z.device)
    first, totals = None, []
    for k in range(s["max_iter"] + (f0 is not None)):
        fz = f0 if k == 0 and f0 is not None else f(z)
        g = fz - z
        norms = torch.stack([double(g).square().sum(-1), double(fz).square().sum(-1)], -1)
        if method.leaves_ended and not fixed:
            norms = norms * active[..., None]
        totals.append(norms.sum((0, 1)))
        norms = scope_sum(norms, s["scope"], s["decay"], reverse)
        root = norms.sqrt()
        r = root[..., 0] if s["stop"] == "abs" else root[..., 0] / (root[..., 1] + method.floor)
        finite = norms.isfinite().all(-1) & r.isfinite()
        first = r if first is None else first
        better = active & finite & (r < best)
        best, best_at = torch.where(better, r, best), torch.where(better, k, best_at)
        best_z = torch.where(better[..., None], z, best_z)
        best_f = torch.where(better[..., None], fz, best_f)
        evaluations = torch.where(active, k + 1, evaluations)
        converged, failed = torch.zeros_like(active), active & ~finite
        if not fixed:
            converged = active & finite & (r <= tol) & (k + 1 >= s["min_iter"])
            lost = (r > first * diverge) | (k - best_at >= s["stall"])
            failed = failed | (active & ~converged & lost)
        z = torch.where((failed & best.isfinite())[..., None], best_z, z)
        active = active & ~converged & ~failed
        if k + 1 == s["max_iter"] + (f0 is not None):
            break
        if not fixed and (not active.any() or stagnant(totals, s, method.floor)):
            break
        z = torch.where(active[..., None], method.advance(k, z, fz, g, active), z)
    return best_z, best_f, {"residual": best, "evaluations": evaluations}
