"""PI0Policy.from_pretrained loads nothing of a file with 'module.' before its names, and returns a random model."""

import json
import sys
from pathlib import Path
import numpy as np
import torch
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi05 import modeling_pi05
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

def report(found, right):
    wrong = [name for name in sorted(right) if name not in found or not np.array_equal(found[name], right[name])]
    for name in wrong[:3]:
        x, y = np.asarray(found.get(name, [])), np.asarray(right[name])
        at = np.unravel_index(np.argmax(x != y), y.shape) if x.shape == y.shape else ()
        where = f"{name}{[*map(int, at)] if at else ''}"
        print(f"wrong: {where} is {x[at] if at else 'missing' if name not in found else x.shape}")
        print(f"right: {where} is {y[at] if at else y.shape}")
    print(f"{len(wrong)} of {len(right)} arrays are wrong")
    return int(len(wrong) > 0)

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "input/model.json").read_text())
EXPECTED = dict(np.load(HERE / "input/expected.npz"))
load_0 = load(model=MODEL, path=HERE / "input/torch", seed=0)
sys.exit(report(load_0, EXPECTED))
