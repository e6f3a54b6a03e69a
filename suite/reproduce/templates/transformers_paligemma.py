"""transformers' PaliGemmaForConditionalGeneration."""

from typing import Any

from fixtures.writers import hugging_face
from suite.reproduce.hugging_face import paligemma_options
from suite.reproduce.template import Arrays, Template

SETUP = """
import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, PaliGemmaConfig, PaliGemmaForConditionalGeneration
"""

LOAD = """
def load(model, path, seed):
    torch.manual_seed(seed)
    loaded, info = PaliGemmaForConditionalGeneration.from_pretrained(
        path, config=PaliGemmaConfig(**model), generation_config=GenerationConfig(),
        dtype=torch.float32, output_loading_info=True)
    print("loading report:", {kind: sorted(map(str, names)) for kind, names in info.items() if names})
    return {name: x.numpy() for name, x in loaded.state_dict().items()}
"""

STORED = """
def stored(path):
    tensors = {}
    for file in sorted(path.glob("*.safetensors")):
        found = {name.replace(".vision_model.", "."): x.numpy() for name, x in load_file(file).items()}
        tensors |= {f"{name} in {file.name}" if name in tensors else name: x for name, x in found.items()}
    return tensors
"""


def _native(spec: Any, params: Arrays) -> Arrays:
    return hugging_face.tensors(params, "from_5_6", padded=False)


def _config(spec: Any) -> Any:
    # Rows for <image> and one more token, up to a multiple of 64, as in a release.
    rows = spec["vocab_size"] + hugging_face.ADDED_TOKENS
    return paligemma_options(spec, rows + -rows % hugging_face.VOCABULARY_MULTIPLE)


TEMPLATE = Template(
    packages=("transformers", "torch", "safetensors", "numpy"),
    setup=SETUP,
    calls={"load:hugging_face": LOAD, "stored:hugging_face": STORED},
    config=_config,
    native=_native,
)
