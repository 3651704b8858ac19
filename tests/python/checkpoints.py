"""Checkpoints of other programs through scripts/from_torch.py and `deq import`, with random weights.

    checkpoints.py FOLDER DEQ     files are made in FOLDER

The modules below have the names and sizes of locuslab/deq (its versions of 2019 and 2021) and of
TorchDEQ's language model, and compute nothing. Where the package torchdeq is there, its own norm
names the weights.
"""
import copy
import json
import os
import struct
import subprocess
import sys

import torch
from torch import nn

try:
    from torchdeq.norm import apply_norm
except ImportError:
    apply_norm = None

folder, deq = sys.argv[1:3]
here = os.path.dirname(os.path.abspath(__file__))
script = os.path.join(here, "..", "..", "scripts", "from_torch.py")
os.makedirs(folder, exist_ok=True)
os.chdir(folder)
torch.manual_seed(4)
D, HEADS, INNER, WORDS, EMBED = 16, 2, 24, 40, 16


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


def done(*command):
    r = run(*command)
    if r.returncode != 0:
        sys.exit(f"{' '.join(command)}: {r.stderr}")
    return r.stdout


# -- names and sizes

class Part(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def parameter(*size):
    return nn.Parameter(torch.randn(*size))


def normalise(part):
    """Weight norm over rows, whose factors are parameters and whose product is none."""
    weight = part.weight
    del part._parameters["weight"]
    dims = tuple(range(1, weight.dim()))
    part.weight_g = nn.Parameter(weight.detach().norm(dim=dims, keepdim=True))
    part.weight_v = nn.Parameter(weight.detach().clone())
    part.weight = part.weight_v * 1  # a derived tensor among the attributes


def conv(rows, cols, bias=True, taps=1):
    return nn.Conv1d(cols, rows, taps, bias=bias)


def published_f(linear, wnorm):
    attention = Part(qkv_net=conv(3 * D, D, False), r_net=conv(D, D, False), o_net=conv(D, D),
                     r_w_bias=parameter(HEADS, D // HEADS), r_r_bias=parameter(HEADS, D // HEADS))
    make = nn.Linear if linear else lambda i, o: conv(o, i)
    f = Part(dec_attn=attention, pos_ff=Part(ff1_net=make(D, INNER), ff2_net=make(INNER, D)))
    attention.pre_lnorm = True
    if wnorm:
        for part in (attention.qkv_net, attention.r_net, attention.o_net, f.pos_ff.ff1_net, f.pos_ff.ff2_net):
            normalise(part)
    return f


def vocabulary_layers(cutoffs, div):
    ends = [0, *cutoffs, WORDS]
    sizes = [b - a for a, b in zip(ends, ends[1:])] if div > 1 else [WORDS]
    widths = [EMBED // div ** i for i in range(len(sizes))]
    emb = Part(emb_layers=nn.ModuleList(nn.Embedding(n, e) for n, e in zip(sizes, widths)))
    crit = Part(out_layers=nn.ModuleList(nn.Linear(e, n) for n, e in zip(sizes, widths)))
    for table, out in zip(emb.emb_layers, crit.out_layers):
        out.weight = table.weight
    if cutoffs:
        crit.cluster_weight, crit.cluster_bias = parameter(len(cutoffs), EMBED), parameter(len(cutoffs))
        crit.cutoffs = [*cutoffs, WORDS]
    if div > 1:
        emb.emb_projs = nn.ModuleList(nn.Linear(e, D, bias=False) for e in widths)
        crit.out_projs = nn.ModuleList(nn.Linear(e, D, bias=False) for e in widths)
        for i in range(1, len(widths)):
            crit.out_projs[i].weight.data = emb.emb_projs[i].weight.data
    return emb, crit


def language_model(cutoffs=(), div=1, wnorm=True, linear=True):
    emb, crit = vocabulary_layers(cutoffs, div)
    model = Part(word_emb=emb, inject_conv=conv(3 * D, D), pos_emb=Part(), func=published_f(linear, wnorm), crit=crit)
    model.pos_emb.register_buffer("inv_freq", torch.ones(D // 2))
    model.local_size, model.tgt_len, model.mem_len, model.dropout = 0, 15, 12, 0.05
    model.solver = print  # whatever: functions of theirs are not looked for
    return model


def of_2019(**how):
    """f and its copy without gradients, each twice."""
    model = language_model(linear=False, **how)
    model.func_copy = published_f(False, False)
    model.deq = Part(func=model.func, func_copy=model.func_copy)
    return model


def trellis():
    net = Part(inject_conv=conv(4 * D, 6, taps=2), func=Part(full_conv=conv(4 * D, D, taps=2)))
    normalise(net.inject_conv)
    normalise(net.func.full_conv)
    net.func_copy = copy.deepcopy(Part(full_conv=conv(4 * D, D, taps=2)))
    model = Part(encoder=nn.Embedding(WORDS, 6), decoder=nn.Linear(6, WORDS), trellisnet=net)
    model.decoder.weight = model.encoder.weight
    return model


def deq_lm(blocks):
    """TorchDEQ's: f of several blocks, normalised by the package itself where it is there."""
    def attention():
        return Part(qkv_net=nn.Linear(D, 3 * D, bias=False), r_net=nn.Linear(D, D, bias=False), o_net=nn.Linear(D, D),
                    ln1=nn.LayerNorm(D), ln2=nn.LayerNorm(D),
                    r_w_bias=parameter(HEADS, D // HEADS), r_r_bias=parameter(HEADS, D // HEADS))
    emb, crit = vocabulary_layers((), 1)
    f = Part(dec_attn=nn.ModuleList(attention() for _ in range(blocks)),
             pos_ff=nn.ModuleList(Part(ff1_net=nn.Linear(D, INNER), ff2_net=nn.Linear(INNER, D), ln=nn.LayerNorm(D))
                                  for _ in range(blocks)))
    if apply_norm is not None:
        apply_norm(f, norm_type="weight_norm")
    return Part(word_emb=emb, injection=nn.Linear(D, 3 * D), func=f, crit=crit)


# -- what deq makes of them

def read(path):
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(size)), f.read()
    meta = header.pop("__metadata__")
    return {name: torch.frombuffer(bytearray(data[slice(*t["data_offsets"])]), dtype=torch.float32).view(t["shape"])
            for name, t in header.items()}, meta


def compare(name, saved, model, want, *settings):
    """Every weight of the imported checkpoint must have the bits of the model's, and the configuration its sizes."""
    torch.save(saved, name + ".pt")
    done(sys.executable, script, name + ".pt", name + ".safetensors", *settings)
    done(deq, "import", name + ".safetensors", "--data", "words", "--out", name + ".bin", "--force")
    done(deq, "export", name + ".bin", "--out", name + "-again.safetensors", "--force")
    got, meta = read(name + "-again.safetensors")
    config, state = json.loads(meta["deq_config"]), model.state_dict()
    for key, tensor in got.items():
        if not torch.equal(tensor.flatten(), state[key].flatten()):
            sys.exit(f"{name}: {key} is not the weight that was saved")
    for key, value in want.items():
        section, entry = key.split(".")
        if config[section][entry] != value:
            sys.exit(f"{name}: {key} is {config[section][entry]}, not {value}")
    done(deq, "score", name + ".bin", "text", "--max-iter", "30")
    return len(got)


def refused(path, name):
    for r in (run(sys.executable, script, path, name), run(deq, "import", name, "--data", "words", "--out", "none.bin")):
        if r.returncode == 0 or "TorchDEQ's DEQ-LM" not in r.stderr or r.stderr.count("\n") != 1:
            sys.exit(f"{path}: a DEQ-LM was not refused with its reason: {r.stderr}")


class Corpus:
    pass


class Trap:
    """What a hostile file can ask an unpickler to do."""

    def __reduce__(self):
        return os.system, ("touch sprung",)


def main():
    corpus, corpus.vocab = Corpus(), Corpus()
    corpus.vocab.idx2sym = ["<eos>", "<unk>"] + [f"w{i}" for i in range(WORDS - 2)]
    torch.save(corpus, "cache.pt")
    done(sys.executable, script, "--vocab", "cache.pt", "words")
    with open("text", "w") as f:
        f.write("w1 w2 w3\nw4 w30\n")
    sizes = {"model.d_model": D, "model.n_head": HEADS, "model.d_inner": INNER, "model.compat": True}
    count = 0
    model = language_model()
    count += compare("whole", model, model, {**sizes, "model.wnorm": True, "model.pre_lnorm": True,
                                             "model.cutoffs": [], "eval.mem_len": 12, "train.tgt_len": 15})
    model = language_model((10, 25), 2, wnorm=False)
    prefixed = {"module." + k: t for k, t in model.state_dict().items()}
    count += compare("nested", {"epoch": 3, "trap": Trap(), "state_dict": prefixed}, model,
                     {**sizes, "model.wnorm": False, "model.div_val": 2, "model.cutoffs": [10, 25],
                      "model.tie_projs": [False, True, True], "model.pre_lnorm": True}, "model.pre_lnorm=true")
    if os.path.exists("sprung"):
        sys.exit("nested: a command that the file named was run")
    model = language_model((10, 25))
    count += compare("one-table", model, model, {**sizes, "model.div_val": 1, "model.cutoffs": [10, 25]})
    model = of_2019(cutoffs=(10, 25), div=2)
    count += compare("of-2019", nn.DataParallel(model), model, {**sizes, "model.cutoffs": [10, 25]})
    model = trellis()
    count += compare("trellis", model.state_dict(), model,
                     {"model.cell": "trellis", "model.nhid": 10, "model.nout": 6, "model.ksize": 2})
    for blocks in (1, 3):
        state = deq_lm(blocks).state_dict()
        torch.save(state, "lm.pth")
        header = {k: {"dtype": "F32", "shape": list(t.shape), "data_offsets": [0, 0]} for k, t in state.items()}
        at, data = 0, b""
        for k, t in state.items():
            header[k]["data_offsets"] = [at, at + 4 * t.numel()]
            data += struct.pack(f"<{t.numel()}f", *t.flatten().tolist())
            at += 4 * t.numel()
        header["__metadata__"] = {"deq_config": json.dumps({"model": {"d_model": D, "n_head": HEADS,
                                                                      "vocab_size": WORDS}})}
        text = json.dumps(header).encode()
        with open("lm.safetensors", "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + data)
        refused("lm.pth", "lm.safetensors")
    torch.save({"func.pos_ff.ff1_net.weight_orig": torch.ones(2)}, "spectral.pt")
    r = run(sys.executable, script, "spectral.pt", "none.safetensors")
    if r.returncode != 1 or "torchdeq.norm.remove_norm(model)" not in r.stderr:
        sys.exit(f"a spectral norm was not refused with what to do: {r.stderr}")
    print(f"checkpoints of other programs: {count} weights of 5 models, bit for bit; names of TorchDEQ "
          f"{'by the package' if apply_norm else 'without the package'}")


main()
