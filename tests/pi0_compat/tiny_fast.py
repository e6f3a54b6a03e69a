"""The tiny pi0-FAST that these tests share, and the fixture's batch in the model's form."""

from typing import Any

import numpy as np

from fixtures import content
from fixtures.specs import tiny
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import Observation
from pi0_compat.model.pi0_fast import FAST_CAMERAS

# Adapters, alpha != rank; two key/value heads, all axes distinct.
SPEC = tiny("pi0_fast", lora="both", num_kv_heads=2)
BASE_SPEC = tiny("pi0_fast", num_kv_heads=2)
LORA = Pi0Config.from_json({**SPEC})
BASE = Pi0Config.from_json({**BASE_SPEC})


def lora_params() -> dict[str, Any]:
    """Return parameters of ``LORA`` with every adapter matrix non-zero."""
    return dict(content.params(SPEC))


def base_params() -> dict[str, Any]:
    """Return parameters of ``BASE``: those of ``LORA`` without adapters."""
    return dict(content.params(BASE_SPEC))


def observation(arrays: dict[str, np.ndarray]) -> Observation:
    """Return the fixture's flat arrays as an observation."""
    return Observation(
        images={camera: arrays[f"image/{camera}"] for camera in FAST_CAMERAS},
        image_masks={camera: arrays[f"image_mask/{camera}"] for camera in FAST_CAMERAS},
        state=arrays["state"],
        tokenized_prompt=arrays["tokenized_prompt"],
        tokenized_prompt_mask=arrays["tokenized_prompt_mask"],
        token_ar_mask=arrays["token_ar_mask"],
        token_loss_mask=arrays["token_loss_mask"],
    )
