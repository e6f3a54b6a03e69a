"""The tiny model that these tests share, and the fixture's batch in the model's form."""

from typing import Any

import numpy as np

from fixtures import content, observations
from fixtures.specs import tiny
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import CAMERAS, Observation
from pi0_compat.training.configs import CosineDecaySchedule, TrainConfig

Params = dict[str, Any]

# Adapters on both experts, alpha != rank; two key/value heads, all axes distinct.
SPEC = tiny("pi0", lora="both", num_kv_heads=2)
BASE_SPEC = tiny("pi0", num_kv_heads=2)
LORA = Pi0Config.from_json(SPEC)
BASE = Pi0Config.from_json(BASE_SPEC)
PI05 = Pi0Config.from_json(tiny("pi05"))

Q_EINSUM = "PaliGemma/llm/layers/attn/q_einsum"
LINEAR = "PaliGemma/llm/layers/mlp/linear"


def lora_params(seed: int = 0) -> Params:
    """Return parameters of ``LORA`` with every adapter matrix non-zero."""
    return dict(content.params(SPEC, seed))


def base_params(seed: int = 0) -> Params:
    """Return parameters of ``BASE``: those of ``LORA`` without adapters."""
    return dict(content.params(BASE_SPEC, seed))


def train_config(**changes: Any) -> TrainConfig:
    """Return a run that moves every trainable parameter visibly, with a moving average unless changed."""
    schedule = CosineDecaySchedule(warmup_steps=1, peak_lr=0.01, decay_steps=10, decay_lr=0.001)
    options: dict[str, Any] = {"model": LORA, "ema_decay": 0.5, "lr_schedule": schedule}
    return TrainConfig(**(options | changes))


def batch(seed: int = 0) -> dict[str, np.ndarray]:
    """Return two observations; the second has a masked camera and a padded prompt."""
    return observations.batch(SPEC, seed=seed)


def observation(arrays: dict[str, np.ndarray]) -> Observation:
    """Return the fixture's flat arrays as an observation."""
    return Observation(
        images={camera: arrays[f"image/{camera}"] for camera in CAMERAS},
        image_masks={camera: arrays[f"image_mask/{camera}"] for camera in CAMERAS},
        state=arrays["state"],
        tokenized_prompt=arrays["tokenized_prompt"],
        tokenized_prompt_mask=arrays["tokenized_prompt_mask"],
    )


def weight_of(path: str) -> str:
    """Return the weight of an adapter matrix by openpi's two spellings, independently of the library."""
    if path.endswith(("/lora_a", "/lora_b")):
        return path[: -len("lora_a")] + "w"
    return path[: -len("_lora_a")]


def without(params: Params, *paths: str) -> Params:
    """Return the parameters except these paths."""
    return {path: array for path, array in params.items() if path not in paths}


# The paths of every adapter matrix of ``LORA``.
ADAPTERS = sorted(path for path in lora_params() if path.endswith(("lora_a", "lora_b")))
