"""Refuse to load for a config that openpi only serves: say which weights there are, and what to pass."""

import dataclasses
from typing import Any

from pi0_compat.errors import LoadError
from pi0_compat.loading.report import LoadReport
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Params


@dataclasses.dataclass(frozen=True)
class MissingWeightLoader:
    """The loader of a config that names no weights to start from. openpi initializes all parameters there, silently.

    Attributes:
      config: the name of the config.
      served: the released checkpoint that openpi serves with it, a URL; None if there are no public weights.
    """

    config: str
    served: str | None

    def load(self, model: Pi0Spec, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """Raise a ``LoadError`` that says what to pass. Arguments: ``WeightLoader.load``."""
        del model, seed, frozen_dtype
        there_is = f"openpi serves {self.served} with it" if self.served else "no weights of it are public"
        example = f"{self.served}/params" if self.served else "<your checkpoint>/params"
        raise LoadError(
            f"config {self.config!r} names no weights to start from: {there_is}. To train, pass them: "
            f"dataclasses.replace(config, weight_loader=CheckpointWeightLoader({example!r})); to start fresh, "
            "NoOpWeightLoader()"
        )
