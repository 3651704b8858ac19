"""Makes tests/golden/torch/muon.safetensors, steps of PyTorch's own Muon (torch.optim.Muon, 2.9 and later).

    python3 tests/python/muon.py tests/golden/torch/muon.safetensors

Every matrix gets STEPS gradients, whose sizes change by factors of ten. For each way to scale the
update there are the weights after every step, twice: in bfloat16 as PyTorch computes, and with its
Newton-Schulz iteration in float64, for which the name of its type is bent while it runs."""

import sys

import torch
from safetensors.torch import save_file

STEPS = 5
SHAPES = [(6, 6), (4, 9), (10, 3)]
SETTINGS = {
    "shape": {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "original"},
    "rms": {"lr": 0.003, "weight_decay": 0.2, "adjust_lr_fn": "match_rms_adamw"},
}

torch.manual_seed(5)
bfloat16 = torch.bfloat16
tensors = {}
for i, shape in enumerate(SHAPES):
    tensors[f"w{i}"] = torch.randn(shape, dtype=torch.float64)
    for k in range(STEPS):
        tensors[f"g{i}:{k}"] = torch.randn(shape, dtype=torch.float64) * 10.0 ** (k % 3 - 1)
for name, setting in SETTINGS.items():
    for precision, dtype in (("exact", torch.float64), ("bf16", bfloat16)):
        weights = [torch.nn.Parameter(tensors[f"w{i}"].clone()) for i in range(len(SHAPES))]
        muon = torch.optim.Muon(weights, momentum=0.95, nesterov=True, **setting)
        for k in range(STEPS):
            for i, w in enumerate(weights):
                w.grad = tensors[f"g{i}:{k}"].clone()
            torch.bfloat16 = dtype
            muon.step()
            torch.bfloat16 = bfloat16
            for i, w in enumerate(weights):
                tensors[f"{name}:{precision}:{i}:{k}"] = w.detach().clone()
save_file(tensors, sys.argv[1], {"made_by": f"PyTorch {torch.__version__}"})
