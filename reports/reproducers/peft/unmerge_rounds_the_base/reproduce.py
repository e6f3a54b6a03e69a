"""PEFT: after merge_adapter and unmerge_adapter, the base weights are no longer what they were."""

import sys

import numpy as np
import torch
from peft import LoraConfig, get_peft_model


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(16, 16, bias=False)

    def forward(self, x):
        return self.q_proj(x)


wrong = 0
for dtype in (torch.float32, torch.bfloat16):
    torch.manual_seed(0)
    base = Model().to(dtype)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], init_lora_weights=False))
    weight = model.base_model.model.q_proj.base_layer.weight
    before = weight.detach().clone().float().numpy()
    for _ in range(10):
        model.merge_adapter()
        model.unmerge_adapter()
    after = weight.detach().float().numpy()
    off = np.abs(after - before)
    if off.any():
        wrong += 1
        at = tuple(int(n) for n in np.unravel_index(off.argmax(), off.shape))
        print(f"wrong: {dtype}: after ten times merge and unmerge, weight{list(at)} is {after[at]:.9g}")
        print(f"right: {dtype}: weight{list(at)} is {before[at]:.9g}, as before")
        print(f"{(off > 0).sum()} of {off.size} numbers changed, the worst by {off.max() / abs(before).max():.1e} of the largest")
sys.exit(int(wrong > 0))
