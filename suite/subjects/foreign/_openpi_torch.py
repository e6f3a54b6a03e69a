"""openpi's PyTorch models at the sizes of a spec, and its converter.

openpi hard-codes 8 heads here, besides its sizes.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any
from unittest import mock

from ._hugging_face_sizes import gemma_sizes, siglip_sizes
from ._openpi_checkout import REAL_VOCABULARY, at_size, config_of, script

# isort: split
import torch
from openpi.models_pytorch import gemma_pytorch
from openpi.models_pytorch.preprocessing_pytorch import preprocess_observation_pytorch as preprocess

Data = dict[str, Any]
LAYOUT, REAL_HEADS = "openpi_pytorch", 8
# One thread: the models are tiny, and other tests run in parallel.
torch.set_num_threads(1)

converter = script("examples/convert_jax_model_to_pytorch.py")


def convert(model: Data, path: str, layout: str, out: str) -> Data:
    """Run the script's conversion of a step's folder, whose params are at ``path``."""
    if layout != LAYOUT:
        raise ValueError(f"openpi converts to {LAYOUT} alone, not to {layout}")
    config = config_of(model)
    with torch_at_size(model), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        converter.convert_pi0_checkpoint(str(Path(path).parent), config.dtype, out, config)
    return {"warnings": [str(warning.message) for warning in caught]}


@contextlib.contextmanager
def torch_at_size(model: Data) -> Iterator[None]:
    """Give the converter and the PyTorch models the sizes of the spec too, in the body."""
    if model["vocab_size"] == REAL_VOCABULARY:
        yield
        return

    def slicing(state_dict: Data, config: Any, slice_all: Any = converter.slice_paligemma_state_dict) -> Any:
        for name, value in gemma_sizes(model["paligemma"]).items():
            setattr(config.text_config, name, value)
        for name, value in _vision_sizes(model).items():
            setattr(config.vision_config, name, value)
        return slice_all(state_dict, config)

    def paligemma(config: Any, make: Any = gemma_pytorch.PaliGemmaForConditionalGeneration) -> torch.nn.Module:
        config.text_config.vocab_size = config.image_token_index = config._vocab_size = model["vocab_size"]
        for name, value in _vision_sizes(model).items():
            setattr(config.vision_config, name, value)
        return make(config=config)

    def expert(config: Any, make: Any = gemma_pytorch.GemmaForCausalLM) -> torch.nn.Module:
        config.vocab_size = model["vocab_size"]
        return make(config=config)

    with (
        at_size(model),
        mock.patch.object(gemma_pytorch.PaliGemmaWithExpertModel, "forward", _forward_with(model)),
        mock.patch.dict(preprocess.__kwdefaults__, {"image_resolution": (model["image_size"],) * 2}),
        mock.patch.object(converter, "slice_paligemma_state_dict", slicing),
        mock.patch.object(gemma_pytorch, "PaliGemmaForConditionalGeneration", paligemma),
        mock.patch.object(gemma_pytorch, "GemmaForCausalLM", expert),
    ):
        yield


def _forward_with(model: Data) -> FunctionType:
    """Replace the 8 of ``att_output.reshape(batch_size, -1, 1 * 8 * head_dim)``, the only 8 in ``forward``."""
    forward = gemma_pytorch.PaliGemmaWithExpertModel.forward
    code = _with_heads(forward.__code__, model["paligemma"]["num_heads"])
    return FunctionType(code, forward.__globals__, forward.__name__, forward.__defaults__, forward.__closure__)


def _with_heads(code: CodeType, num_heads: int) -> CodeType:
    """Return the code, and that of the functions in it, with ``num_heads`` in place of 8."""
    constants = (
        _with_heads(value, num_heads)
        if isinstance(value, CodeType)
        else num_heads
        if type(value) is int and value == REAL_HEADS
        else value
        for value in code.co_consts
    )
    return code.replace(co_consts=tuple(constants))


def _vision_sizes(model: Data) -> Data:
    further = {"image_size": model["image_size"], "projection_dim": model["paligemma"]["width"]}
    return siglip_sizes(model["siglip"]) | further
