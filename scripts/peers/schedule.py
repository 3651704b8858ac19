"""Schedules of a training, from the section `train` of a configuration that deq has resolved: what
src/train/schedule.c does for trainings that do not repeat the published code's quirks."""
import math


def rate(train, n):
    """Learning rate of update n, from 1."""
    warm, lr, least = train["warmup_steps"], train["lr"], train["lr_min"]
    if n < warm:
        return lr * n / warm
    if train["schedule"] == "inv_sqrt":
        return lr * math.sqrt(max(warm, 1) / n)
    if train["schedule"] == "constant" or train["steps"] <= warm:
        return lr
    done = min((n - warm) / (train["steps"] - warm), 1)
    return least + (lr - least) * (1 + math.cos(math.pi * done)) / 2


def layers(train, n):
    """Times f is unrolled at update n, and in an evaluation after it; 0: it is an equilibrium."""
    return train["pretrain_layers"] if n <= train["pretrain_steps"] else 0


def evaluates(train, n):
    """Whether an evaluation follows update n."""
    every = train["eval_every"]
    return n == train["steps"] or (every > 0 and n % every == 0)


def shorten(train, steps):
    """The same training in `steps` updates, its phases in proportion: the keys that change."""
    if steps == train["steps"]:
        return {}
    part = {key: max(1, round(train[key] * steps / train["steps"])) if train[key] > 0 else 0
            for key in ("warmup_steps", "pretrain_steps")}
    return dict(part, steps=steps)
