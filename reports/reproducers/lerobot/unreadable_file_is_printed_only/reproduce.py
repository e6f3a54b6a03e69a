"""PI0Policy.from_pretrained returns a random model for a file that is a Git LFS pointer."""

import json
import sys
from pathlib import Path
import numpy as np
import torch
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi05 import modeling_pi05
from safetensors.torch import load_file
PALIGEMMA = modeling_pi0.PaliGemmaForConditionalGenerationWithPiGemma
EXPERT = modeling_pi0.PiGemmaForCausalLM

def at_size(model):  # lerobot has the sizes of its own models hard-coded; these are small ones
    def paligemma(config):
        config.text_config.vocab_size = config.image_token_index = model["vocab_size"]
        for name, size in model["siglip"].items():
            setattr(config.vision_config, name, size)
        return PALIGEMMA(config=config)
    def expert(config):
        config.vocab_size = model["vocab_size"]
        return EXPERT(config=config)
    module, name = {"pi0": (modeling_pi0, "PI0"), "pi05": (modeling_pi05, "PI05")}[model["family"]]
    module.get_gemma_config = lambda variant: module.GemmaConfig(**model[variant])
    module.PaliGemmaForConditionalGenerationWithPiGemma, module.PiGemmaForCausalLM = paligemma, expert
    return getattr(module, f"{name}Policy"), getattr(module, f"{name}Config")(**model["config"])

def load(model, path, seed):
    torch.manual_seed(seed)
    policy, config = at_size(model)
    tensors = policy.from_pretrained(path, config=config).state_dict().items()
    return {name: x.numpy() for name, x in tensors if "lm_head" not in name}  # no policy reads a head

def stored(path):
    tensors = load_file(path / "model.safetensors")
    return {name if name.startswith("model.") else f"model.{name}": x.numpy() for name, x in tensors.items()}

def describe(stored, loaded, again):
    for name in sorted(stored.keys() | loaded.keys()):
        of_file, x, y = (np.asarray(tree.get(name, [])).ravel() for tree in (stored, loaded, again))
        if name not in loaded:
            print(f"wrong: {name} of the file is nowhere in the model")
        elif not np.array_equal(x, y):
            print(f"wrong: {name} is random, other numbers in each load: {x[x != y][0]}, {y[x != y][0]}")
        elif name in stored and (of_file.dtype.kind in "biuc" or not np.array_equal(of_file, x)):
            at = np.argmax(x != of_file) or np.argmax(abs(of_file))
            print(f"wrong: {name} is {x[at]}, in the file {of_file[at]} ({of_file.dtype})")

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "input/model.json").read_text())
try:
    load_0 = load(model=MODEL, path=HERE / "input/pi0_base_pytorch", seed=0)
except Exception as error:
    sys.exit(print(f"right: refused: {error}"))
print("wrong: load raises no error", "right: an error that names the cause", sep="\n")
describe(stored(path=HERE / "input/pi0_base_pytorch"), load_0, load(model=MODEL, path=HERE / "input/pi0_base_pytorch", seed=1))
sys.exit(1)
