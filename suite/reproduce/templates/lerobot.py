"""lerobot's policies, at small sizes: it has those of its own models hard-coded."""

from typing import Any

from fixtures.writers import openpi_pytorch
from suite.reproduce.hugging_face import siglip_options
from suite.reproduce.template import Arrays, Template

SETUP = """
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
"""

LOAD = """
def load(model, path, seed):
    torch.manual_seed(seed)
    policy, config = at_size(model)
    tensors = policy.from_pretrained(path, config=config).state_dict().items()
    return {name: x.numpy() for name, x in tensors if "lm_head" not in name}  # no policy reads a head
"""

STORED = """
def stored(path):
    tensors = load_file(path / "model.safetensors")
    return {name if name.startswith("model.") else f"model.{name}": x.numpy() for name, x in tensors.items()}
"""

INIT = """
def init(model, seed):
    torch.manual_seed(seed)
    policy, config = at_size(model)
    return {name: x.numpy() for name, x in policy(config).state_dict().items()}
"""


def _native(spec: Any, params: Arrays) -> Arrays:
    return {f"model.{name}": tensor for name, tensor in openpi_pytorch.tensors(params).items()}


def _config(spec: Any) -> Any:
    """Return the sizes of lerobot's parts, and the options of its policy's config."""
    parts = (("gemma_2b", "paligemma"), ("gemma_300m", "action_expert"))
    vision = siglip_options(spec)
    del vision["model_type"], vision["image_size"], vision["vision_use_head"]
    return {
        "family": spec["family"],
        "vocab_size": spec["vocab_size"],
        "siglip": vision | {"projection_dim": spec["paligemma"]["width"]},
        **{name: {key: size for key, size in spec[part].items() if key != "lora"} for name, part in parts},
        "config": {
            "chunk_size": spec["action_horizon"],
            "n_action_steps": spec["action_horizon"],
            "max_state_dim": spec["action_dim"],
            "max_action_dim": spec["action_dim"],
            "image_resolution": [spec["image_size"]] * 2,
            "tokenizer_max_length": spec["max_token_len"],
            "device": "cpu",
        },
    }


TEMPLATE = Template(
    packages=("lerobot", "transformers", "torch", "safetensors", "numpy"),
    setup=SETUP,
    calls={"load:openpi_pytorch": LOAD, "stored:openpi_pytorch": STORED, "init": INIT},
    config=_config,
    native=_native,
)
