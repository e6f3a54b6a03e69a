"""Merge an adapter of an output layer whose weight is the token table's with PEFT."""

import warnings

import torch
from peft import LoraConfig, get_peft_model


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(8, 4), torch.nn.Linear(4, 8, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(tokens))


base = Tied()
before = base.embed.weight.detach().clone()
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["head"], init_lora_weights=False))
    merged = model.merge_and_unload()
told = any("tie" in str(warning.message) for warning in seen)
print("right" if told or torch.equal(merged.embed.weight, before) else "wrong")
