"""transformers' PaliGemmaForConditionalGeneration: the PaliGemma part of a pi0, in Hugging Face's layout.

A pi0-FAST is nothing else: one pass of it over images and prompt is a PaliGemma's.
"""

import functools
import json
from importlib import metadata
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, PaliGemmaConfig, PaliGemmaForConditionalGeneration

from ._adapters import trainable_of
from ._loading import load_model
from ._pi0 import CAMERAS, paligemma_config
from ._prompt import FAST_CAMERAS, fast_logits_of, logits_of
from ._tensors import Params, in_openpi_names, paligemma_rules, params_of, tensors_of, to_numpy, to_torch

NAME = "transformers-paligemma"
TRAITS = ("pi0", "pi0_fast", "paligemma_alone", "hugging_face", "saved", "float32")
ROOT, LM_HEAD = "model.", "lm_head.weight"
TOKEN_TABLE = "PaliGemma/llm/embedder/input_embedding"
# A release of transformers has rows for two more tokens, padded to a multiple of 64: 257216 for 257152.
ADDED_TOKENS, MULTIPLE = 2, 64


def describe() -> dict[str, Any]:
    packages = {name: metadata.version(name) for name in ("transformers", "torch", "safetensors", "numpy")}
    return {"version": packages["transformers"], "packages": packages, "device": "cpu: torch"}


def load(model: Any, source: Any, seed: int) -> dict[str, Any]:
    if source["kind"] not in ("hugging_face", "saved"):
        raise NotImplementedError(
            f"PaliGemmaForConditionalGeneration reads Hugging Face's layout, not {source['kind']}"
        )
    torch.manual_seed(seed)
    rows = model["vocab_size"] + ADDED_TOKENS
    rows += -rows % MULTIPLE
    config = None if source["kind"] == "saved" else _config(model, rows)
    params = _read(model, source["path"], config, torch.float32)
    return {"params": params, "report": None, "nonfinite": None, "warnings": [], "notes": None}


def load_for_inference(model: Any, path: str) -> Params:
    return _read(model, path, None, "auto")


def _read(model: Any, path: str, config: Any, dtype: Any) -> Params:
    loaded = load_model(PaliGemmaForConditionalGeneration, path, config, (), str, dtype)
    params = params_of(loaded.state_dict(), paligemma_rules(model, ROOT))
    params[TOKEN_TABLE] = params[TOKEN_TABLE][: model["vocab_size"]]
    return params


def save(model: Any, params: Params, path: str) -> None:
    _fill(_fresh(model), model, params, assign=True).save_pretrained(path)


def trainable(model: Any) -> list[str]:
    with torch.device("meta"):
        return trainable_of(_fresh(model), paligemma_rules(model, ROOT))


def embed_prefix(model: Any, params: Params, batch: Params) -> np.ndarray:
    return to_numpy(_embedded(_of_whole(model, params), batch, FAST_CAMERAS if _is_fast(model) else CAMERAS))


def token_logits(model: Any, params: Params, batch: Params) -> np.ndarray:
    filled = _of_whole(model, params)
    embedded = _embedded(filled, batch, FAST_CAMERAS)
    return fast_logits_of(filled.model.language_model, embedded, batch, filled.lm_head)


def _is_fast(model: Any) -> bool:
    return bool(model["family"] == "pi0_fast")


def _embedded(filled: Any, batch: Params, cameras: tuple[str, ...]) -> torch.Tensor:
    images = [to_torch(batch[f"image/{camera}"]).movedim(-1, 1).to(filled.dtype) for camera in cameras]
    with torch.no_grad():
        tokens = [filled.get_image_features(image).pooler_output for image in images]
        tokens.append(filled.get_input_embeddings()(to_torch(batch["tokenized_prompt"])))
    return torch.cat(tokens, dim=1)


def prompt_logits(model: Any, params: Params, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    filled = _of_whole(model, params)
    return logits_of(filled.model.language_model, tokens, mask, filled.lm_head)


def _of_whole(model: Any, params: Params) -> Any:
    """Make a PaliGemma with its part of these parameters, in its compute dtype."""
    rules = paligemma_rules(model, ROOT)
    own = {path: x for path, x in params.items() if path in rules}
    return _fill(_made(json.dumps(model)), model, own, assign=False)


def _fill(made: Any, model: Any, params: Params, *, assign: bool) -> Any:
    rules = paligemma_rules(model, ROOT)
    tensors = tensors_of(params, rules)
    with in_openpi_names(rules):
        # The output layer is the token table.
        head = {name: x for name, x in made.state_dict().items() if name == LM_HEAD}
        made.load_state_dict(tensors | head, assign=assign)
    made.tie_weights()
    return made


@functools.lru_cache(maxsize=8)
def _made(spec: str) -> Any:
    model = json.loads(spec)
    return _fresh(model, model["dtype"])


def _fresh(model: Any, dtype: str = "float32") -> Any:
    config = _config(model, model["vocab_size"])
    return AutoModelForImageTextToText.from_config(config, dtype=getattr(torch, dtype)).eval()


def _config(model: Any, rows: int) -> PaliGemmaConfig:
    return PaliGemmaConfig(**paligemma_config(model, rows))
