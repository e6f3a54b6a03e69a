"""openpi's own PyTorch model, in the interpreter of openpi's checkout: its training's loads and steps, and its results.

Params pass through ``scripts/train_pytorch.py``, whose loop loads and trains, and ``load_pytorch``, which serves.
"""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from . import _openpi_checkout
from . import _openpi_torch_training as training
from ._openpi_checkout import config_of
from ._openpi_torch import torch_at_size
from ._policy_rules import policy_rules
from ._tensors import Params, in_openpi_names, params_of, shapes_of, tensors_of, to_numpy, to_torch

# isort: split
import numpy as np
import safetensors.torch
import torch
from openpi.models_pytorch.pi0_pytorch import PI0Pytorch

NAME = "openpi_pytorch"
TRAITS = ("pi0", "pi05", "openpi_pytorch", "float32")
# The classes of the modules have a head of their own; no pi0 reads the expert's, and the other is the token table.
HEADS = {f"paligemma_with_expert.{name}.lm_head.weight" for name in ("paligemma", "gemma_expert")}

Data = dict[str, Any]


describe = _openpi_checkout.describe


def param_spec(model: Data) -> Data:
    # The meta device allocates nothing.
    with torch.device("meta"):
        return shapes_of(_fresh(model).state_dict(), policy_rules(model, ""))


def trainable(model: Data) -> list[str]:
    # The loop's optimizer takes every parameter, whatever a config freezes.
    return list(policy_rules(model, ""))


def init(model: Data, seed: int) -> Params:
    return training.load(model, None, seed)


def load(model: Data, source: Data, seed: int) -> Data:
    if source["kind"] not in ("openpi_pytorch", "nothing"):
        raise NotImplementedError(f"openpi's PyTorch model reads its own layout, not {source['kind']}")
    params = training.load(model, source.get("path"), seed)
    return {"params": params, "report": None, "nonfinite": None, "warnings": [], "notes": None}


def load_for_inference(model: Data, path: str) -> Params:
    config = config_of(model)
    # A run's step has its weights beside its optimizer's state, in no folder of their own.
    folder = Path(path).parent if Path(path).name == "params" and not Path(path).exists() else Path(path)
    with torch_at_size(model):
        loaded = config.load_pytorch(mock.Mock(model=config), str(folder / "model.safetensors"))
    return params_of(loaded.state_dict(), policy_rules(model, ""))


def loss(model: Data, params: Params, batch: Params, noise: Any, time: Any, seed: int) -> np.ndarray:
    filled, (observation, actions) = _filled(model, params), training.observation_of(batch)
    torch.manual_seed(seed)
    # Its forward pass always augments images; a loss that is compared has them as they are.
    with torch_at_size(model), training.images_as_they_are(), torch.no_grad():
        given = (None if draw is None else to_torch(draw) for draw in (noise, time))
        return to_numpy(filled(observation, actions, *given).mean(-1))


def sample_actions(model: Data, params: Params, batch: Params, noise: np.ndarray, num_steps: int) -> np.ndarray:
    filled, (observation, _) = _filled(model, params), training.observation_of(batch)
    with torch_at_size(model):
        return to_numpy(filled.sample_actions("cpu", observation, noise=to_torch(noise), num_steps=num_steps))


def embed_prefix(model: Data, params: Params, batch: Params) -> np.ndarray:
    filled, (observation, _) = _filled(model, params), training.observation_of(batch)
    with torch_at_size(model), torch.no_grad():
        inputs = filled._preprocess_observation(observation, train=False)
        return to_numpy(filled.embed_prefix(*inputs[:4])[0])


def train(model: Data, params: Params, batches: list[Params], options: Data, folder: str | None = None) -> Data:
    with tempfile.TemporaryDirectory() as weights:
        safetensors.torch.save_model(_filled(model, params), f"{weights}/model.safetensors")
        return training.run(model, batches, options, folder, weights=weights)


def resume(model: Data, batches: list[Params], options: Data, folder: str, step: int | None = None) -> Data:
    if step is not None:
        raise NotImplementedError("openpi's PyTorch training resumes from the latest step alone")
    return training.run(model, batches, options, folder, weights=None, resume=True)


def _fresh(model: Data) -> PI0Pytorch:
    with torch_at_size(model):
        return PI0Pytorch(config_of(model))


def _filled(model: Data, params: Params) -> PI0Pytorch:
    """Make a model with these parameters; cached, as making one takes longer than running it."""
    made, rules = _made(json.dumps(model)), policy_rules(model, "")
    with in_openpi_names(rules):
        found = made.load_state_dict(tensors_of(params, rules), strict=False)
        if found.unexpected_keys or set(found.missing_keys) - HEADS:
            raise ValueError(f"the params do not fill the model: {found}")
    return made


@functools.lru_cache(maxsize=8)
def _made(spec: str) -> PI0Pytorch:
    return _fresh(json.loads(spec)).eval()
