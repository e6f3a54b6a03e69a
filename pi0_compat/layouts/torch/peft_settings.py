"""Read ``adapter_config.json`` of a PEFT adapter, and reject the kinds of adapters that pi0 has no place for."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.layout import ADAPTER_CONFIG
from pi0_compat.storage.foreign import what_it_is

MERGE = "merge it into its base with PEFT (model.merge_and_unload()), save the merged model, and convert that"
# Where training began with adapters that were taken out of the weights; the names may go on: pissa_niter_4.
_CHANGES_ITS_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Kinds of first values that leave the base as it is.
_PLAIN_INITIALIZATIONS = ("gaussian", "eva", "orthogonal")
_WHY: dict[str, tuple[Callable[[Any], bool], str]] = {
    "peft_type": (lambda value: value not in (None, "LORA"), "pi0's adapters are LORA alone"),
    "use_dora": (bool, "DoRA also scales the columns of the merged weights, for which pi0 has no place"),
    "use_qalora": (bool, "pi0 has no place for pooled inputs"),
    "use_bdlora": (bool, "pi0 has no place for blocks of its own"),
    "alora_invocation_tokens": (bool, "pi0 has no adapters that start at a token"),
    "lora_bias": (bool, "pi0's adapters have no bias"),
    "bias": (lambda value: value not in (None, "none"), "biases of the base were trained too, and belong to it"),
    "fan_in_fan_out": (bool, "the weights it is for are transposed, pi0's are not"),
    "layers_to_transform": (lambda value: value is not None, "only these layers have adapters, pi0's have them in all"),
    "layer_replication": (bool, "the model it is for repeats layers"),
    "modules_to_save": (bool, "these modules were trained whole, beside the adapters"),
    "trainable_token_indices": (bool, "rows of the token table were trained too"),
    "target_parameters": (bool, "pi0's adapters are on modules"),
}


class Settings(NamedTuple):
    """The content of ``adapter_config.json``, and the folder that it is in."""

    path: Path
    values: dict[str, Any]

    def scale(self, module: str, rank: int) -> float:
        """Return the factor of the product of a module's matrices.

        Raises:
          LoadError: the alpha is no number.
        """
        alpha = self._of("alpha_pattern", module, self.values.get("lora_alpha", 8))
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise LoadError(f"{self.path / ADAPTER_CONFIG}: the alpha of {module} is {alpha!r}; expected a number")
        return float(alpha) / (math.sqrt(rank) if self.values.get("use_rslora") else rank)

    def require_rank(self, module: str, tensor: str, rank: int) -> None:
        """Reject a rank that is not the recorded one: then patterns were lost, of alpha perhaps too."""
        recorded = self._of("rank_pattern", module, self.values.get("r", rank))
        if recorded != rank:
            raise LoadError(
                f"{self.path / ADAPTER_CONFIG}: the rank of {module} is {recorded!r}, but {tensor} has rank {rank}; "
                "PEFT cannot load it either: set r or rank_pattern to the ranks of the tensors, and check alpha_pattern"
            )

    def require_plain(self) -> None:
        """Reject an adapter that is more, or other, than two matrices beside a weight of its base.

        Raises:
          LoadError: with the option, its value, and the way out.
        """
        file = self.path / ADAPTER_CONFIG
        kind = self.values.get("init_lora_weights")
        if isinstance(kind, str) and kind.lower().startswith(_CHANGES_ITS_BASE):
            raise LoadError(
                f"{file}: init_lora_weights is {kind!r}: it belongs to a base from which the adapter's first values "
                "were taken out, and is another function on the released one; save it again with PEFT's "
                f"path_initial_model_for_weight_conversion, or {MERGE}"
            )
        if isinstance(kind, str) and kind.lower() not in _PLAIN_INITIALIZATIONS:
            raise LoadError(
                f"{file}: init_lora_weights is {kind!r}, which is not known to leave the base as it is; {MERGE}"
            )
        for name, (is_other, why) in _WHY.items():
            if is_other(value := self.values.get(name)):
                raise LoadError(f"{file}: {name} is {value!r}: {why}; {MERGE}")

    def _of(self, patterns: str, module: str, default: Any) -> Any:
        """Look a module up as PEFT does: the first pattern that matches the module, or its end."""
        found = self.values.get(patterns) or {}
        if not isinstance(found, dict):
            raise LoadError(f"{self.path / ADAPTER_CONFIG}: {patterns} is {found!r:.80}; expected values by module")
        try:
            return next((x for key, x in found.items() if re.fullmatch(rf"(.*\.)?({key})", module)), default)
        except re.error as error:
            raise LoadError(f"{self.path / ADAPTER_CONFIG}: {patterns} has a pattern that is none ({error})") from error


def read_settings(folder: Path) -> Settings:
    """Return the settings of an adapter folder.

    Raises:
      CheckpointError: there are none, or they are no JSON object.
      LoadError: the adapter is of a kind that pi0 has no place for.
    """
    file = folder / ADAPTER_CONFIG
    try:
        settings = Settings(folder, dict(json.loads(file.read_text())))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        if foreign := what_it_is(file):
            raise CheckpointError(f"{file}: expected the settings of a PEFT adapter, found {foreign}") from error
        raise CheckpointError(f"{file}: is no settings of a PEFT adapter ({error})") from error
    settings.require_plain()
    return settings
