"""Load a model of float32 weights and one bfloat16 table, without a dtype in its config, with transformers."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, **sizes)
LlamaForCausalLM(config).save_pretrained(sys.argv[1])
settings, weights = Path(sys.argv[1]) / "config.json", Path(sys.argv[1]) / "model.safetensors"
kept = {name: value for name, value in json.loads(settings.read_text()).items() if "dtype" not in name}
settings.write_text(json.dumps(kept))
tensors = load_file(str(weights))
first = min(tensors)
tensors = {name: tensor.bfloat16() if name == first else tensor.float() for name, tensor in tensors.items()}
save_file(tensors, str(weights), metadata={"format": "pt"})
loaded = LlamaForCausalLM.from_pretrained(sys.argv[1])
dtypes = {parameter.dtype for name, parameter in loaded.named_parameters() if name != first}
print("right" if dtypes == {torch.float32} else "wrong")
