"""transformers' PI0ForConditionalGeneration: reads openpi's PyTorch layout; losses, sampling, tokens, training steps.
It has no pi05."""

import functools
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PI0ForConditionalGeneration

from . import _pi0
from ._adapters import trainable_of
from ._loading import load_model
from ._pi0 import UNREAD, file_name, fresh_model, pi0_config, pi0_rules, steps_on
from ._prompt import logits_of
from ._tensors import Params, in_openpi_names, params_of, shapes_of, tensors_of

NAME = "transformers"
TRAITS = ("pi0", "openpi_pytorch", "saved", "float32")


def describe() -> dict[str, Any]:
    packages = {name: metadata.version(name) for name in ("transformers", "torch", "safetensors", "numpy")}
    return {"version": packages["transformers"], "packages": packages, "device": "cpu: torch"}


def param_spec(model: Any) -> dict[str, Any]:
    # The meta device allocates nothing.
    with torch.device("meta"):
        tensors = fresh_model(model).state_dict()
    return shapes_of(tensors, pi0_rules(model))


def init(model: Any, seed: int) -> Params:
    torch.manual_seed(seed)
    return params_of(fresh_model(model).state_dict(), pi0_rules(model))


def load(model: Any, source: Any, seed: int) -> dict[str, Any]:
    if source["kind"] not in ("openpi_pytorch", "saved"):
        raise NotImplementedError(f"PI0ForConditionalGeneration reads openpi's PyTorch layout, not {source['kind']}")
    torch.manual_seed(seed)
    config = None if source["kind"] == "saved" else pi0_config(model)
    params = _read(model, source["path"], config, torch.float32)
    return {"params": params, "report": None, "nonfinite": None, "warnings": [], "notes": None}


def load_for_inference(model: Any, path: str) -> Params:
    return _read(model, path, None, "auto")


def _read(model: Any, path: str, config: Any, dtype: Any) -> Params:
    loaded = load_model(PI0ForConditionalGeneration, path, config, (file_name(UNREAD),), file_name, dtype)
    return params_of(loaded.state_dict(), pi0_rules(model))


def save(model: Any, params: Params, path: str) -> None:
    _with(model, params).save_pretrained(path)


def trainable(model: Any) -> list[str]:
    with torch.device("meta"):
        return trainable_of(fresh_model(model), pi0_rules(model))


def train(model: Any, params: Params, batches: list[Params], options: Any, folder: str | None = None) -> Any:
    module = _with(model, params).train()
    result = steps_on(module, module.config, batches, options)
    if folder:
        module.save_pretrained(Path(folder) / str(len(batches)) / "params")
    return result | {"params": params_of(module.state_dict(), pi0_rules(model))}


def loss(model: Any, params: Params, batch: Params, noise: Any, time: Any, seed: int) -> np.ndarray:
    module = _filled(model, params)
    # Making a model draws too.
    torch.manual_seed(seed)
    return _pi0.loss(module, batch, noise, time)


def sample_actions(model: Any, params: Params, batch: Params, noise: np.ndarray, num_steps: int) -> np.ndarray:
    return _pi0.sample_actions(_filled(model, params), batch, noise, num_steps)


def embed_prefix(model: Any, params: Params, batch: Params) -> np.ndarray:
    return _pi0.embed_prefix(_filled(model, params), batch)


def prompt_logits(model: Any, params: Params, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return logits_of(_filled(model, params).model.vlm.language_model, tokens, mask)


def _filled(model: Any, params: Params) -> Any:
    """Make a model with these parameters in its compute dtype; cached, as making one takes longer than running it."""
    return _fill(_made(json.dumps(model)), model, params, assign=False)


def _with(model: Any, params: Params) -> Any:
    """Make a model with these parameters in their own dtypes, for changing and saving."""
    return _fill(fresh_model(model), model, params, assign=True)


def _fill(made: Any, model: Any, params: Params, *, assign: bool) -> Any:
    tensors = tensors_of(params, pi0_rules(model))
    with in_openpi_names(pi0_rules(model)):
        made.load_state_dict(tensors | {UNREAD: made.get_parameter(UNREAD)}, assign=assign)
    return made


@functools.lru_cache(maxsize=8)
def _made(spec: str) -> Any:
    return fresh_model(json.loads(spec), json.loads(spec)["dtype"])
