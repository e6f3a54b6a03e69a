"""Save an adapter that began with pissa_niter_2 with PEFT, and load it onto the same base."""

import copy
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model

torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(16, 16, bias=False))
config = LoraConfig(r=4, lora_alpha=4, target_modules=["0"], init_lora_weights="pissa_niter_2")
model = get_peft_model(copy.deepcopy(base), config).eval()
model.save_pretrained(sys.argv[1])
loaded = PeftModel.from_pretrained(copy.deepcopy(base), sys.argv[1]).eval()
inputs = torch.eye(16)
with torch.no_grad():
    expected, found = model(inputs), loaded(inputs)
print("right" if (expected - found).norm() < 1e-3 * expected.norm() else "wrong")
