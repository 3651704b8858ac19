"""Makes a safetensors file, which `deq import` reads, of a checkpoint of PyTorch. It needs torch; deq does not.

    from_torch.py model.pt OUT.safetensors [KEY=VALUE]...     weights, and the configuration they tell
    from_torch.py --vocab cache.pt DIR                        the words of a corpus, as DIR/vocab.txt

model.pt is what torch.save wrote: a state dict, a dict with one in it, or a whole model of
locuslab/deq, whose classes need not be there. No code of the file is run.

The configuration is told by sizes and, of a whole model, by its attributes. KEY=VALUE adds to it or
changes it, as model.pre_lnorm=true, which weights alone do not show.
"""
import collections
import ctypes
import json
import os
import pickle
import struct
import sys
import types

import torch

# Keys that hold the weights in dicts of training programs, in this order.
NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
# What a whole model is built from that is not data. All else of a file becomes an empty object.
SAFE = {("collections", "OrderedDict"): collections.OrderedDict, ("builtins", "set"): set,
        ("__builtin__", "set"): set, ("argparse", "Namespace"): types.SimpleNamespace}


class Stub:
    """In place of any class or function that a file names."""

    def __init__(self, *args, **kwargs):
        pass

    def __setitem__(self, key, value):  # of dicts that are subclasses
        vars(self).setdefault("items_of", {})[key] = value

    def append(self, value):
        vars(self).setdefault("values_of", []).append(value)

    def extend(self, values):
        vars(self).setdefault("values_of", []).extend(values)


class Unpickler(pickle.Unpickler):
    """Makes tensors and plain objects, and runs nothing that a file names."""

    def find_class(self, module, name):
        if (module, name) in SAFE:
            return SAFE[module, name]
        if module == "torch._utils" and name.startswith("_rebuild_"):
            return getattr(torch._utils, name)
        if module == "torch" and isinstance(getattr(torch, name, None), (torch.dtype, type)):
            return getattr(torch, name)  # types of numbers and storages, and torch.Size
        if module == "torch.nn.parameter" and name == "Parameter":
            return torch.nn.Parameter
        return type(name, (Stub,), {})


def load(path):
    module = types.SimpleNamespace(Unpickler=Unpickler, load=lambda f, **how: Unpickler(f, **how).load(),
                                   UnpicklingError=pickle.UnpicklingError, __name__="pickle")
    try:
        return torch.load(path, map_location="cpu", pickle_module=module, weights_only=False)
    except OSError as e:
        sys.exit(f"{path}: {e.strerror}")
    except Exception as e:  # whatever a file that is none makes of the unpickler
        sys.exit(f"{path}: not a file of torch.save that can be read: {e}")


def is_module(o):
    return hasattr(o, "__dict__") and "_parameters" in vars(o) and "_modules" in vars(o)


def module_tensors(module, prefix=""):
    """(name, tensor) of all parameters and buffers, as state_dict names them."""
    for kind in ("_parameters", "_buffers"):
        for name, t in vars(module).get(kind, {}).items():
            if isinstance(t, torch.Tensor):
                yield prefix + name, t
    for name, child in vars(module)["_modules"].items():
        if child is not None and is_module(child):
            yield from module_tensors(child, f"{prefix}{name}.")


def find_tensors(loaded, path):
    """The tensors by name, and the whole model if there is one."""
    if is_module(loaded):
        inner = vars(loaded)["_modules"].get("module")  # DataParallel
        loaded = loaded if inner is None else inner
        return dict(module_tensors(loaded)), loaded
    if not isinstance(loaded, dict):
        sys.exit(f"{path}: holds neither a model nor a dict of tensors")
    if any(isinstance(t, torch.Tensor) for t in loaded.values()):
        return {k: t for k, t in loaded.items() if isinstance(t, torch.Tensor)}, None
    for key in NESTED:
        if isinstance(loaded.get(key), dict) or is_module(loaded.get(key)):
            return find_tensors(loaded[key], path)
    sys.exit(f"{path}: no tensors; it has {', '.join(map(str, list(loaded)[:8]))}")


def plain_names(tensors):
    """Names without wrappers, copies and what is no weight. v1 of locuslab/deq keeps f four times."""
    out = {}
    for name, t in tensors.items():
        parts = [p for p in name.split(".") if p not in ("_orig_mod", "_fsdp_wrapped_module")]
        while len(parts) > 1 and parts[0] in ("module", "model", "net"):
            parts = parts[1:]
        if "func_copy" in parts or "deq" in parts[:-1] or parts[-1] in ("inv_freq", "mask"):
            continue
        if t.is_floating_point():
            out[".".join(parts)] = t.detach()
    return out


def refuse_torchdeq(w, path):
    """TorchDEQ's DEQ-LM has another f, and its spectral norm other weights."""
    if any(k.startswith("func.dec_attn.0.") for k in w):
        blocks = 1 + max(int(k.split(".")[2]) for k in w if k.startswith("func.dec_attn."))
        sys.exit(f"{path}: weights of TorchDEQ's DEQ-LM, with {blocks} block{'s' * (blocks > 1)} in f. Each block "
                 "normalises before W_o and with learned gains, and all of them read one memory of the last "
                 "block's states; no cell of deq computes that f, so that the weights would mean another model")
    spectral = next((k for k in w if k.endswith("weight_orig")), None)
    if spectral is not None:
        sys.exit(f"{path}: {spectral} is under a spectral norm, which deq does not have; save the model after "
                 "torchdeq.norm.remove_norm(model), with which weights are plain")


# -- the configuration

def shape(w, name):
    """Of a matrix, whether it is normalised or not, without sizes of 1 at the end."""
    t = w.get(name, w.get(name + "_v", w.get(name.replace(".weight", ".parametrizations.weight.original1"))))
    return None if t is None else list(t.shape)


def same(w, a, b):
    return a in w and b in w and w[a].shape == w[b].shape and torch.equal(w[a], w[b])


def clusters(w, model, config, path):
    """Cutoffs, and what the output layer shares with the embedding."""
    tables = [shape(w, f"word_emb.emb_layers.{i}.weight") for i in range(20)]
    tables = [t for t in tables if t is not None]
    heads = shape(w, "crit.cluster_weight")
    config["d_embed"] = tables[0][1]
    words = [t[0] for t in tables]
    config["vocab_size"] = sum(words)
    if len(tables) > 1:
        config["div_val"] = tables[0][1] // tables[1][1]
        config["cutoffs"] = [sum(words[:i]) for i in range(1, len(words))]
    elif heads is not None and heads[0] > 0:
        config["cutoffs"] = list(getattr(model, "cutoffs", None) or vars_of(model, "crit").get("cutoffs", []))[:heads[0]]
        if len(config["cutoffs"]) != heads[0]:
            sys.exit(f"{path}: {heads[0] + 1} clusters of words that share one table; say where they begin, as "
                     "model.cutoffs=[20000,40000,200000]")
    count = len(config.get("cutoffs", [])) + 1
    config["tie_weights"] = "crit.out_layers.0.weight" not in w or same(
        w, "crit.out_layers.0.weight", "word_emb.emb_layers.0.weight")
    if "crit.out_projs.0.weight" in w:
        wide = "div_val" not in config  # one projection for all clusters
        config["tie_projs"] = [same(w, f"crit.out_projs.{i}.weight", f"word_emb.emb_projs.{0 if wide else i}.weight")
                               for i in range(count)]


def vars_of(model, name):
    """The attributes of a part of a whole model."""
    for part in name.split(".") if model is not None else []:
        model = vars(model)["_modules"].get(part)
        if model is None:
            return {}
    return {} if model is None else vars(model)


def transformer(w, model, path):
    config = {"cell": "transformer", "compat": True}
    config["n_head"], config["d_head"] = shape(w, "func.dec_attn.r_w_bias")
    config["d_model"] = shape(w, "inject_conv.weight")[1]
    config["d_inner"] = shape(w, "func.pos_ff.ff1_net.weight")[0]
    config["wnorm"] = "func.dec_attn.qkv_net.weight" not in w
    clusters(w, model, config, path)
    attention, whole = vars_of(model, "func.dec_attn"), vars(model) if model is not None else {}
    config["pre_lnorm"] = bool(attention.get("pre_lnorm", False))
    config["local_size"] = int(whole.get("local_size") or 0)
    config["dropout"] = float(whole.get("dropout", 0.1))
    lengths = {k: int(whole[k]) for k in ("tgt_len", "mem_len") if k in whole}
    return {"model": config, "train": lengths, "eval": lengths}


def trellis(w, model, path):
    weight = "trellisnet.func.full_conv.weight"
    gates, hidden, taps = shape(w, weight)
    outs = shape(w, "decoder.weight") or shape(w, "encoder.weight")
    config = {"cell": "trellis", "compat": True, "ksize": taps, "nout": outs[1], "nhid": hidden - outs[1],
              "d_embed": shape(w, "encoder.weight")[1], "vocab_size": outs[0], "wnorm": weight not in w,
              "tie_weights": "decoder.weight" not in w or same(w, "decoder.weight", "encoder.weight")}
    dilation = vars_of(model, "trellisnet").get("dilation")
    if dilation is not None:
        config["dilation"] = int(dilation[0] if isinstance(dilation, (list, tuple)) else dilation)
    return {"model": config}


def infer(w, model, path):
    if "func.dec_attn.r_w_bias" in w and "inject_conv.weight" in w:
        return transformer(w, model, path)
    if shape(w, "trellisnet.func.full_conv.weight") is not None and "encoder.weight" in w:
        return trellis(w, model, path)
    names = ", ".join(list(w)[:4])
    sys.exit(f"{path}: not the weights of a DEQ-Transformer or a DEQ-TrellisNet (the first: {names})")


def change(config, setting):
    key, equals, value = setting.partition("=")
    section, dot, name = key.partition(".")
    if not equals or not dot:
        sys.exit(f"{setting}: want KEY=VALUE, as model.pre_lnorm=true")
    try:
        config.setdefault(section, {})[name] = json.loads(value)
    except json.JSONDecodeError:
        config.setdefault(section, {})[name] = value


# -- files

def write(path, tensors, meta):
    """A safetensors file in float32."""
    header, at = {"__metadata__": meta}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + 4 * t.numel()]}
        at += 4 * t.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            t = t.to("cpu", torch.float32).contiguous()
            f.write(ctypes.string_at(t.data_ptr(), 4 * t.numel()))
    os.replace(path + ".part", path)


def vocabulary(path, folder):
    corpus = load(path)
    vocab = vars(corpus).get("vocab") or vars(corpus).get("dictionary")
    words = None if vocab is None else vars(vocab).get("idx2sym") or vars(vocab).get("idx2word")
    if not words:
        sys.exit(f"{path}: no vocabulary of a corpus (cache.pt, which locuslab/deq writes beside the text)")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as f:
        f.write("".join(word + "\n" for word in words))
    print(f"{folder}/vocab.txt: {len(words)} words")


def main(args):
    if len(args) == 3 and args[0] == "--vocab":
        return vocabulary(args[1], args[2])
    if len(args) < 2 or args[0].startswith("-"):
        sys.exit(__doc__)
    tensors, model = find_tensors(load(args[0]), args[0])
    w = plain_names(tensors)
    refuse_torchdeq(w, args[0])
    config = infer(w, model, args[0])
    for setting in args[2:]:
        change(config, setting)
    write(args[1], w, {"format": "pt", "deq_config": json.dumps(config)})
    print(f"{args[1]}: {len(w)} tensors, {sum(t.numel() for t in w.values())} numbers; next:\n"
          f"deq import {args[1]} --data DIR --out model.bin     # DIR/vocab.txt has the words in their order")


if __name__ == "__main__":
    main(sys.argv[1:])
