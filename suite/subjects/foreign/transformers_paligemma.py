"""transformers' PaliGemmaForConditionalGeneration: the PaliGemma part of a pi0, from Hugging Face's layout."""

from importlib import metadata
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, PaliGemmaConfig, PaliGemmaForConditionalGeneration

from ._loading import load_model
from ._pi0 import CAMERAS, paligemma_config
from ._tensors import Params, in_openpi_names, paligemma_rules, params_of, tensors_of, to_numpy, to_torch

NAME = "transformers-paligemma"
TRAITS = ("pi0", "hugging_face", "float32")
TOKEN_TABLE = "PaliGemma/llm/embedder/input_embedding"
# A release of transformers has rows for two more tokens, padded to a multiple of 64: 257216 for 257152.
ADDED_TOKENS, MULTIPLE = 2, 64


def describe() -> dict[str, Any]:
    packages = {name: metadata.version(name) for name in ("transformers", "torch", "safetensors", "numpy")}
    return {"version": packages["transformers"], "packages": packages, "device": "cpu: torch"}


def load(model: Any, source: Any, seed: int) -> dict[str, Any]:
    if source["kind"] != "hugging_face":
        raise NotImplementedError(
            f"PaliGemmaForConditionalGeneration reads Hugging Face's layout, not {source['kind']}"
        )
    torch.manual_seed(seed)
    rows = model["vocab_size"] + ADDED_TOKENS
    rows += -rows % MULTIPLE
    loaded = load_model(PaliGemmaForConditionalGeneration, source["path"], _config(model, rows), (), str)
    params = params_of(loaded.state_dict(), paligemma_rules(model, "model."))
    params[TOKEN_TABLE] = params[TOKEN_TABLE][: model["vocab_size"]]
    return {"params": params, "report": None, "nonfinite": None, "warnings": [], "notes": None}


def embed_prefix(model: Any, params: Params, batch: Params) -> np.ndarray:
    rules = paligemma_rules(model, "model.")
    config = _config(model, model["vocab_size"])
    filled = AutoModelForImageTextToText.from_config(config, dtype=getattr(torch, model["dtype"]))
    tensors = tensors_of({path: x for path, x in params.items() if path in rules}, rules)
    with in_openpi_names(rules):
        filled.load_state_dict(tensors | {"lm_head.weight": tensors["model.language_model.embed_tokens.weight"]})
    images = [to_torch(batch[f"image/{camera}"]).movedim(-1, 1).to(filled.dtype) for camera in CAMERAS]
    with torch.no_grad():
        tokens = [filled.get_image_features(image).pooler_output for image in images]
        tokens.append(filled.get_input_embeddings()(to_torch(batch["tokenized_prompt"])))
    return to_numpy(torch.cat(tokens, dim=1))


def _config(model: Any, rows: int) -> PaliGemmaConfig:
    return PaliGemmaConfig(**paligemma_config(model, rows))
