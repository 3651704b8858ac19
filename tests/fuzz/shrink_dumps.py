#!/usr/bin/env python3
"""Makes the seeds tests/fuzz/corpus/dump/* from the reference dumps of published code.

    tests/fuzz/shrink_dumps.py FOLDER_OF_DUMPS

One seed for each kind of dump and cell, of the same tensors but a few, each dimension replaced by
the smallest that the configuration allows and the numbers by small ones: what `deq verify` computes
of it is right for the seed's weights, and differs from the outputs in it. A seed takes 0.3 ms, a
dump a hundred times that. The seeds are kept in the repository; this is for a new kind."""
import json
import math
import pathlib
import struct
import sys

SEEDS = pathlib.Path(__file__).parent / "corpus" / "dump"

# The dumps' sizes and what becomes of them. Batch 2 -> 1, width 64 -> 2, time 16 -> 2, ...
TRANSFORMER = {2: 1, 64: 2, 192: 6, 128: 2, 16: 2, 32: 4, 200: 4, 17: 3, 33: 5, 49: 7, 97: 5, 4: 1, 6: 2, 9: 2}
TRELLIS = {2: 1, 24: 2, 40: 2, 64: 4, 128: 8, 256: 16, 200: 4, 20: 2, 21: 3, 41: 5}
MAP = {30: 2, 3: 1, 6: 2, 5: 1}
CONFIG = {
    "transformer": {"cell": "transformer", "vocab_size": 4, "d_model": 2, "n_head": 1, "d_head": 2,
                    "d_inner": 2, "pre_lnorm": False, "wnorm": False, "tgt_len": 2, "mem_len": 2},
    "trellis": {"cell": "trellis", "vocab_size": 4, "d_embed": 2, "tie_weights": True, "ksize": 2,
                "dilation": 1, "nhid": 2, "nout": 2, "hsize": 4, "tgt_len": 2, "wnorm": False},
}

# seed: dump, first letters of the names of the tensors kept
KEPT = {
    "f": ("A_div1_f_nomem", "w: z u pos_emb cotangent out dz jac_ g:func.pos_ff.ff1_net.bias jg:func.pos_ff.ff1_net.bias"),
    "f-memory": ("A_div1_f_mem16", "w: z u pos_emb cotangent out dz0"),
    "deq": ("A_div1_deq", "w: stream s0:loss s0:z_star s0:nll_ref_order s0:spectral_radius s1:mem_z_in s1:new_mem_u s1:g:func.pos_ff.ff1_net.bias"),
    "eval": ("A_div1_eval", "w: stream ppl total_loss s0:loss s1:mem_z s2:nll_ref_order"),
    "unrolled": ("A_div1_unrolled3", "w: stream s0:loss s1:mem_z s0:g:func.pos_ff.ff1_net.bias"),
    "dropout": ("A_dropout", "w: mask stream loss mem_z g:func.pos_ff.ff1_net.bias"),
    "jacreg": ("A_jacreg", "w: stream loss jac v"),
    "train": ("A_div1_train6", "w0: stream losses lrs grad_norms base_lr clip max_step warmup w6:func.pos_ff.ff1_net.bias w6:crit.out_layers.0.bias"),
    "solver": ("A_solver", "w: stream u anderson_rel:result broyden_abs:nstep broyden_abs:result"),
    "map-linear": ("solver_linear", "W bias broyden_ls_rel_12"),
    "map-tanh": ("solver_tanh", "W bias anderson_rel_12"),
    "trellis-f": ("trellis_k2d1_f", "w: z u cotangent out dz0 g:trellisnet.func.full_conv.bias"),
    "trellis-deq": ("trellis_k2d1_deq", "w: stream s0:us s0:mem_out s0:loss_softmax s1:z_star"),
}


def small_shape(name, shape, kind, cell):
    if name in ("losses", "lrs", "grad_norms"):
        return [2]
    if kind == "solver_map":
        return [MAP.get(n, n) for n in shape]
    sizes = TRELLIS if cell == "trellis" else TRANSFORMER
    small = [sizes.get(n, n) for n in shape]
    if cell == "trellis" and name.endswith("conv.weight"):
        small[2] = shape[2]  # taps
    return small


def numbers(name, shape, first):
    count = math.prod(shape)
    if name == "stream":
        return [i * 7 % 4 for i in range(count)]
    if count == 1:
        return [{"max_step": 10, "warmup": 1}.get(name, first)]
    return [1.0 if name.startswith("mask") else 0.05 * (i * 5 % 7 - 3) for i in range(count)]


def shrink(path, prefixes):
    raw = path.read_bytes()
    end = 8 + struct.unpack_from("<Q", raw)[0]
    header = json.loads(raw[8:end])
    meta = header.pop("__metadata__")
    cell = json.loads(meta["config"]).get("cell")
    meta.pop("source", None)
    if meta["kind"] != "solver_map":
        extra = {"dropout": 0.2, "dropatt": 0.1} if meta["kind"] == "dropout" else {}
        meta["config"] = json.dumps(CONFIG[cell] | extra, separators=(",", ":"))
    if "n_unroll" in meta:
        meta["n_unroll"] = "2"
    kept = [n for n in header if n.startswith(tuple(prefixes.split())) and "cluster" not in n and "tail" not in n]
    small, body = {"__metadata__": meta}, b""
    for name in sorted(kept, key=lambda n: header[n]["dtype"] != "I64"):  # integers first, for alignment
        entry = header[name]
        integer = entry["dtype"] == "I64"
        shape = small_shape(name, entry["shape"], meta["kind"], cell)
        at = end + entry["data_offsets"][0]
        first = struct.unpack_from("<q" if integer else "<d", raw, at)[0] if at + 8 <= len(raw) else 0
        data = struct.pack(f"<{math.prod(shape)}{'q' if integer else 'f'}", *numbers(name, shape, first))
        small[name.replace("w6:", "w2:")] = {"dtype": entry["dtype"] if integer else "F32", "shape": shape,
                                             "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(small, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def main():
    folder = pathlib.Path(sys.argv[1])
    for seed, (dump, prefixes) in KEPT.items():
        (SEEDS / seed).write_bytes(shrink(folder / f"{dump}.safetensors", prefixes))


if __name__ == "__main__":
    main()
