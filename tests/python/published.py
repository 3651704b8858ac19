"""Compares a training step under given dropout masks, in float64, with a dump of the published code.

    published.py FOLDER DUMP      FOLDER as models.sh makes it, DUMP of kind "dropout"
"""
import json
import os
import sys

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

torch.set_num_threads(1)
LIMIT = 1e-5  # relative to the largest number of a tensor. The dump has numbers of float32
folder, dump = sys.argv[1:]
with safe_open(dump, "pt") as f:
    numbers = {key: f.get_tensor(key) for key in f.keys()}
    settings = json.loads(f.metadata()["config"])

config = AutoConfig.from_pretrained(os.path.join(folder, "plain-hf"), trust_remote_code=True)
deq = config.deq
lengths = {key: settings.pop(key) for key in ("tgt_len", "mem_len")}
deq["train"].update(lengths)
deq["model"].update(settings, compat=True, start="zero")
for side in ("forward", "backward"):
    deq["solver"][side].update(method="broyden", scope="batch", stop="rel", tol=1e-14, history=64,
                               max_iter=300, min_iter=0, stall=60)
model = AutoModelForCausalLM.from_config(config, trust_remote_code=True).double().train()
with torch.no_grad():
    for key, p in model.named_parameters():
        p.copy_(numbers["w:" + key].view_as(p))

order = ["in_emb", "att", "attn_out", "ff1", "ff2", "pos", "out"]


def given_mask(like, shape, rate):
    """The dump's masks, in the order in which the model asks for them."""
    mask = numbers["mask_" + order.pop(0)]
    return mask.reshape(shape)


sys.modules[type(model).__module__].dropout_mask = given_mask
stream = numbers["stream"].T
logp = model(stream[:, :-1]).logits.log_softmax(-1)
loss = -logp.gather(2, stream[:, 1:, None]).mean()
loss.backward()
assert order == [], order
worst = abs(loss.item() - numbers["loss"].item()) / numbers["loss"].item()
for key, p in model.named_parameters():
    want = numbers["g:" + key].view_as(p)
    off = ((p.grad - want).abs().max() / want.abs().max()).item()
    if not off <= LIMIT:
        sys.exit(f"published code under dropout: gradient of {key} differs by {off:.2g}")
    worst = max(worst, off)
print(f"published code under dropout: largest relative difference {worst:.2g}")
sys.exit(not worst <= LIMIT)
