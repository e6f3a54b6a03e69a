"""A policy folder of lerobot as plain data: what it has besides weights, resolved and ready to be written."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pi0_compat.model.pi0_spec import Pi0Spec

STATE, ACTION = "observation.state", "action"
IMAGES = "observation.images"
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor", "policy_postprocessor"

# Name of a tensor, ``observation.state.mean`` and so on -> float32 vector.
Tensors = Mapping[str, np.ndarray]


class Statistics(NamedTuple):
    """What the normalizing steps of a policy take.

    Attributes:
      before: the tensors of the preprocessor's step.
      after: the tensors of the postprocessor's step.
    """

    before: Tensors
    after: Tensors


class Relative(NamedTuple):
    """Actions relative to the state, in lerobot's terms.

    Attributes:
      names: a name for every dimension of an action.
      absolute: the names of the dimensions that stay absolute.
    """

    names: tuple[str, ...]
    absolute: tuple[str, ...]


class Policy(NamedTuple):
    """Everything about a policy but its weights.

    Attributes:
      model: its sizes and family.
      version: of lerobot, whose fields are written.
      images: the keys of the images, in the order of openpi's cameras.
      state_dim: numbers in the robot's state.
      action_dim: numbers in the robot's actions.
      statistics: of the normalizing steps; None leaves states and actions as they are.
      relative: how actions are relative to the state; None if they are absolute.
      state_in_prompt: whether a pi05's prompt has the state.
      device: where lerobot runs the policy.
      dtype: what it computes in, float32 or bfloat16.
      base: of adapters, the path or the repository of the policy that they go on; None for a whole policy.
    """

    model: Pi0Spec
    version: str
    images: tuple[str, ...]
    state_dim: int
    action_dim: int
    statistics: Statistics | None
    relative: Relative | None
    state_in_prompt: bool
    device: str
    dtype: str
    base: str | None = None

    @property
    def mode(self) -> str:
        """How states and actions are normalized: by z-scores for pi0, by quantiles for the others, as in openpi."""
        return "MEAN_STD" if self.model.family == "pi0" else "QUANTILES"

    @property
    def norm_map(self) -> dict[str, str]:
        """Kind of feature -> how it is normalized."""
        return {"VISUAL": "IDENTITY", "STATE": self.mode, "ACTION": self.mode}

    @property
    def input_features(self) -> dict[str, Any]:
        """Key -> kind and shape of everything that the policy takes."""
        shape = [3, self.model.image_size, self.model.image_size]
        images = {key: {"type": "VISUAL", "shape": shape} for key in self.images}
        return images | {STATE: {"type": "STATE", "shape": [self.state_dim]}}

    @property
    def output_features(self) -> dict[str, Any]:
        """Key -> kind and shape of what the policy returns."""
        return {ACTION: {"type": "ACTION", "shape": [self.action_dim]}}
