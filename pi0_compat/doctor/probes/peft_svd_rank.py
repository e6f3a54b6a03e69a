"""Combine two adapters of rank 2 with PEFT's svd, which needs rank 4 for their sum."""

import torch
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
config = LoraConfig(r=2, lora_alpha=2, target_modules=["0"], init_lora_weights=False)
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(16, 16, bias=False)), config, adapter_name="one")
model.add_adapter("two", config)
model.base_model.add_weighted_adapter(["one", "two"], [1.0, 1.0], "both", combination_type="svd")
layer = model.base_model.model[0]
expected = layer.get_delta_weight("one") + layer.get_delta_weight("two")
print("right" if (layer.get_delta_weight("both") - expected).norm() < 1e-3 * expected.norm() else "wrong")
