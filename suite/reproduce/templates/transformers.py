"""transformers' PI0ForConditionalGeneration."""

from typing import Any

from fixtures.writers import openpi_pytorch
from suite.reproduce.hugging_face import gemma_options, paligemma_options
from suite.reproduce.template import Arrays, Template

SETUP = """
import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, PI0Config, PI0ForConditionalGeneration
"""

LOAD = """
def load(model, path, seed):
    torch.manual_seed(seed)
    loaded, info = PI0ForConditionalGeneration.from_pretrained(
        path, config=PI0Config(**model), generation_config=GenerationConfig(),
        dtype=torch.float32, output_loading_info=True)
    print("loading report:", {kind: sorted(map(str, names)) for kind, names in info.items() if names})
    unread = "model.dit.embed_tokens.weight"  # of a class that has a token table, and never reads it
    return {name: x.numpy() for name, x in loaded.state_dict().items() if name != unread}
"""

STORED = """
def stored(path):  # under the model's names
    both, renamed = "paligemma_with_expert.", {}
    starts = {f"{both}gemma_expert.lm_head": None, f"{both}gemma_expert.model": "model.dit",
              f"{both}paligemma.model.vision_tower.vision_model": "model.vlm.vision_tower",
              f"{both}paligemma.model": "model.vlm", f"{both}paligemma.lm_head": "lm_head",
              "action_out_proj": "action_out_proj", "": "embed_action_time."}
    for name, x in load_file(path / "model.safetensors").items():
        start = next(start for start in starts if name.startswith(start))
        if starts[start] is not None:
            renamed[starts[start] + name.removeprefix(start)] = x.numpy()
    return renamed
"""

FILE_NAMES = {
    "paligemma_with_expert.gemma_expert.lm_head": "model.dit.embed_tokens",
    "paligemma_with_expert.gemma_expert.model": "model.dit",
    "paligemma_with_expert.paligemma.model.vision_tower.vision_model": "model.vlm.vision_tower",
    "paligemma_with_expert.paligemma.model": "model.vlm",
}


def _native(spec: Any, params: Arrays) -> Arrays:
    return {_name(name): tensor for name, tensor in openpi_pytorch.tensors(params).items()}


def _name(name: str) -> str:
    for start, renamed in FILE_NAMES.items():
        if name.startswith(start):
            return renamed + name.removeprefix(start)
    return name if name.startswith("action_out_proj") else f"embed_action_time.{name}"


def _config(spec: Any) -> Any:
    dims, rows = spec["action_dim"], spec["vocab_size"]
    return {
        "vlm_config": {"model_type": "paligemma", **paligemma_options(spec, rows)},
        "dit_config": gemma_options(spec["action_expert"], rows),
        "max_state_dim": dims,
        "max_action_dim": dims,
        "chunk_size": spec["action_horizon"],
    }


TEMPLATE = Template(
    packages=("transformers", "torch", "safetensors", "numpy"),
    setup=SETUP,
    calls={"load:openpi_pytorch": LOAD, "stored:openpi_pytorch": STORED},
    config=_config,
    native=_native,
)
