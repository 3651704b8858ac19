"""Compares the exported models of models.sh, in PyTorch, with what deq computes: losses of tokens at
tight solves, with and without training, segment by segment, and gradients.

    compare.py FOLDER [NAME]...
"""
import os
import sys

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
LOGP, GRADIENT = 1e-4, 1e-3  # largest difference; relative to the largest number of a tensor
worst = {"logp": 0.0, "gradient": 0.0}
failures = []


def note(kind, limit, value, what):
    worst[kind] = max(worst[kind], value)
    if not value <= limit:
        failures.append(f"{what}: {value:.3g}, at most {limit:g} is allowed")


def load(folder, name):
    model = AutoModelForCausalLM.from_pretrained(os.path.join(folder, name + "-hf"),
                                                 trust_remote_code=True, dtype=torch.float32)
    solver = model.config.deq["solver"]
    for side in ("forward", "backward"):
        solver[side].update(stop="rel", tol=2e-7, max_iter=100)
    model.config.eval_tol, model.config.eval_max_iter = 2e-7, 100
    return model


def without_dropout(model):
    for key in ("dropout", "dropatt", "dropouti", "dropouth", "wdrop", "emb_dropout"):
        model.config.deq["model"][key] = 0
    cell = model.cell
    cell.dropout_in = cell.dropout_out = 0


def cache_of(out):
    return out["cache"] if "cache" in out else out["past_key_values"]


def published_name(name):
    return name.replace(".parametrizations.weight.original0", ".weight_g") \
               .replace(".parametrizations.weight.original1", ".weight_v")


def compare_train(folder, name, stream):
    """Losses and summed gradients of segments with the memory of those before."""
    model = load(folder, name).train()
    without_dropout(model)
    want = load_file(os.path.join(folder, name + ".train.safetensors"))
    length, cache, losses = 12, None, []
    for at in range(0, stream.shape[1] - 1, length):
        x = stream[:, at:at + length]
        x = x[:, :stream.shape[1] - 1 - at]
        y = stream[:, at + 1:at + 1 + x.shape[1]]
        out = model(x, past_key_values=cache)
        cache = cache_of(out)
        logp = out.logits.log_softmax(-1).gather(2, y[..., None])[..., 0]
        losses.append(-logp.detach())
        fit = model.last_fit
        (-logp.mean() + (0 if fit is None else fit)).backward()
    note("logp", LOGP, (torch.cat(losses, 1) - want["nll"]).abs().max().item(), name + " train")
    seen = set()
    for key, p in model.named_parameters():
        g = want["g:" + published_name(key)]
        seen.add("g:" + published_name(key))
        # A tied projection of the published code has a gradient at both of its names.
        for other in want:
            if "out_projs" in other and other.replace("crit.out_projs", "word_emb.emb_projs") == \
                    "g:" + key:
                if other[2:] not in dict(model.named_parameters()):
                    g, seen = g + want[other], seen | {other}
        got = torch.zeros_like(p) if p.grad is None else p.grad
        scale = g.abs().max().item()
        off = (got.view_as(g) - g).abs().max().item()
        note("gradient", GRADIENT, off / scale if scale > 1e-6 else off, f"{name} gradient of {key}")
    missing = set(want) - seen - {"nll"}
    if missing:
        failures.append(f"{name}: no parameter for {sorted(missing)}")


def compare_eval(folder, name, stream):
    """Losses outside of training, of the same segments, and all at once and token by token."""
    model = load(folder, name).eval()
    want = load_file(os.path.join(folder, name + ".eval.safetensors"))["nll"]
    x, y = stream[:, :-1], stream[:, 1:]
    for pieces in ("whole", "tokens"):
        logits, cache = [], None
        step = x.shape[1] if pieces == "whole" else 1
        with torch.no_grad():
            for at in range(0, x.shape[1], step):
                out = model(x[:, at:at + step], past_key_values=cache)
                cache = cache_of(out)
                logits.append(out.logits)
        logp = torch.cat(logits, 1).log_softmax(-1).gather(2, y[..., None])[..., 0]
        m = model.config.deq["model"]
        # These depend on where segments begin, so that only segments of one length agree.
        apart = m["layers"] > 0 and m["tie_layers"] or m["cell"] == "trellis" and m["compat"]
        if pieces == "tokens" and apart:
            continue
        # Behind its first segments deq eval sees fewer tokens than a window.
        count = 24
        note("logp", LOGP, (-logp - want)[:, :count].abs().max().item(), f"{name} eval {pieces}")


def main():
    folder, names = sys.argv[1], sys.argv[2:]
    if not names:
        names = open(os.path.join(folder, "models")).read().split()
    numbers = [int(x) for x in open(os.path.join(folder, "ids")).read().split()]
    stream = torch.tensor(numbers).view(2, -1)
    for name in names:
        for compare in (compare_train, compare_eval):
            try:
                compare(folder, name, stream)
            except Exception as e:
                if len(names) == 1:
                    raise
                failures.append(f"{name}: {type(e).__name__}: {e}")
    print(f"transformers {transformers.__version__}, torch {torch.__version__}: {len(names)} models; "
          f"largest difference of log-probabilities {worst['logp']:.2g}, of gradients "
          f"(relative) {worst['gradient']:.2g}")
    for line in failures:
        print("FAIL " + line)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
