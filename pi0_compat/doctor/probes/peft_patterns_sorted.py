"""Save an adapter whose alpha_pattern has two fitting keys with PEFT, and load it."""

import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model


def base() -> torch.nn.Module:
    return torch.nn.ModuleDict({"mlp": torch.nn.ModuleDict({"up": torch.nn.Linear(4, 4)})})


config = LoraConfig(r=1, lora_alpha=1, target_modules=["up"], alpha_pattern={"mlp.up": 16, ".*up": 2})
model = get_peft_model(base(), config)
model.save_pretrained(sys.argv[1])
loaded = PeftModel.from_pretrained(base(), sys.argv[1])
scales = [found.base_model.model["mlp"]["up"].scaling["default"] for found in (model, loaded)]
print("right" if scales[0] == scales[1] else "wrong")
