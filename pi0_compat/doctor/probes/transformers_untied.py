"""Load a model whose tables are tied in the config and differ in the file with transformers."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, tie_word_embeddings=True, **sizes)
LlamaForCausalLM(config).save_pretrained(sys.argv[1])
weights = Path(sys.argv[1]) / "model.safetensors"
tensors = load_file(str(weights))
tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
save_file(tensors, str(weights), metadata={"format": "pt"})
loaded = LlamaForCausalLM.from_pretrained(sys.argv[1])
tied = torch.equal(loaded.get_input_embeddings().weight, loaded.get_output_embeddings().weight)
print("right" if tied else "wrong")
