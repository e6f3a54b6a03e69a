"""Read and write the statistics in lerobot's processor files, ``policy_preprocessor.json`` and its counterpart.

A pipeline is a list of steps; the one that normalizes has its modes and features in the JSON, and its statistics in a
safetensors file that ``state_file`` names. The name has the number of the step, which differs between lerobot 0.4 and
0.6, so it is followed and never guessed. Tensors are ``observation.state.mean``, ``action.q99`` and so on.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.torch.safetensors_file import FLOATS, open_safetensors, write_safetensors
from pi0_compat.norm_stats.openpi_files import read_json
from pi0_compat.norm_stats.stats import FIELDS, Stats
from pi0_compat.params import Leaf

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
NORMALIZER, UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"
OBSERVATION_STATE, ACTION = "observation.state", "action"
# What lerobot adds to a standard deviation, and takes for a range of zero, unless a file says otherwise.
LEROBOT_EPS = 1e-8
IDENTITY = "IDENTITY"


class Feature(NamedTuple):
    """A feature of a policy: STATE, ACTION, VISUAL, ENV, ..., and its shape."""

    kind: str
    shape: tuple[int, ...]


class Normalizer(NamedTuple):
    """The step of a pipeline that normalizes, or the one that undoes it.

    Attributes:
      path: the pipeline's JSON file.
      state_file: the file of the statistics; None if there is none, and the step changes nothing.
      eps: what is added to a standard deviation, and stands for a range of zero.
      modes: kind of feature -> MEAN_STD, QUANTILES, MIN_MAX, QUANTILE10 or IDENTITY.
      features: name -> kind and shape.
      stats: name of a feature -> its statistics, which are float32 in the file.
    """

    path: Path
    state_file: Path | None
    eps: float
    modes: dict[str, str]
    features: dict[str, Feature]
    stats: dict[str, Stats]

    def mode(self, feature: str) -> str:
        """Return how a feature is normalized; IDENTITY where lerobot passes it on because it has no statistics."""
        if feature not in self.features or feature not in self.stats:
            return IDENTITY
        return self.modes.get(self.features[feature].kind, IDENTITY)


class Processors(NamedTuple):
    """The normalizing steps of a policy folder; None where a pipeline or the step in it is missing."""

    normalizer: Normalizer | None
    unnormalizer: Normalizer | None


def has_processors(folder: Path) -> bool:
    """Return whether a policy folder has a pipeline."""
    return any((folder / name).is_file() for name in (PREPROCESSOR, POSTPROCESSOR))


def read_processors(folder: Path) -> Processors:
    """Return the normalizing steps of a policy folder.

    Raises:
      CheckpointError: a file is damaged or missing; the message names it.
    """
    return Processors(
        read_normalizer(folder / PREPROCESSOR, NORMALIZER),
        read_normalizer(folder / POSTPROCESSOR, UNNORMALIZER),
    )


def read_normalizer(file: Path, registry_name: str) -> Normalizer | None:
    """Return a normalizing step of a pipeline; None if there is no such file, or no such step in it.

    Args:
      file: the pipeline's JSON file.
      registry_name: ``NORMALIZER`` or ``UNNORMALIZER``.

    Raises:
      CheckpointError: a file is damaged or missing.
    """
    if not file.is_file():
        return None
    document = read_json(file, "a pipeline of lerobot")
    steps = document.get("steps") if isinstance(document, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CheckpointError(f"{file}: expected a pipeline of lerobot with steps, found {document!r:.80}")
    found = [step for step in steps if step.get("registry_name") == registry_name]
    if not found:
        return None
    if len(found) > 1:
        raise CheckpointError(f"{file}: has {len(found)} steps {registry_name}; expected one")
    return _normalizer(file, found[0])


def _normalizer(file: Path, step: Mapping[str, Any]) -> Normalizer:
    config = step.get("config") or {}
    eps, modes = config.get("eps", LEROBOT_EPS), config.get("norm_map") or {}
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not math.isfinite(eps):
        raise CheckpointError(f"{file}: eps is {eps!r:.80}; expected a number")
    if not isinstance(modes, dict) or not all(isinstance(mode, str) for mode in modes.values()):
        raise CheckpointError(f"{file}: norm_map is {modes!r:.80}; expected modes by kind of feature")
    features = {name: _feature(file, name, one) for name, one in (config.get("features") or {}).items()}
    state = step.get("state_file")
    if state is None:
        return Normalizer(file, None, eps, modes, features, {})
    if not isinstance(state, str) or set(state) & set("/\\:\0") or state in ("", ".", ".."):
        raise CheckpointError(f"{file}: state_file is {state!r:.200}; expected a file of the folder itself")
    return Normalizer(file, file.parent / state, eps, modes, features, read_tensors(file.parent / state))


def _feature(file: Path, name: str, values: Any) -> Feature:
    try:
        return Feature(str(values["type"]), tuple(map(int, values["shape"])))
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{file}: the feature {name} is {values!r:.80}; expected type and shape") from error


def read_tensors(file: Path) -> dict[str, Stats]:
    """Return the statistics of a normalizing step by name of the feature; of others than state and action
    there are none, and counts and the like are left out.

    Raises:
      CheckpointError: the file is damaged or missing, or a statistic is no vector of floats.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: not there; the pipeline beside it names it as the file of its statistics")
    found: dict[str, dict[str, np.ndarray]] = {}
    with open_safetensors(file) as opened:
        for name, leaf in opened.leaves.items():
            feature, _, statistic = name.rpartition(".")
            if statistic not in FIELDS:
                continue
            if feature not in (OBSERVATION_STATE, ACTION):
                # openpi has no place for them; what counts is that they are there.
                found.setdefault(feature, {})
                continue
            if leaf.dtype not in FLOATS or len(leaf.shape) != 1:
                raise CheckpointError(f"{file}: {name} is {leaf}; expected a vector of floats")
            found.setdefault(feature, {})[statistic] = np.array(opened.read(name), np.float64)
    return {feature: Stats(**values) for feature, values in found.items()}


def write_tensors(stats: Mapping[str, Stats], file: Path) -> None:
    """Write statistics as the file of a normalizing step, in float32; two runs write the same bytes.

    Args:
      stats: name of a feature -> its statistics, for example from ``to_lerobot``.
      file: the file to make.
    """
    tensors = {
        f"{feature}.{name}": values.astype(np.float32)
        for feature, one in sorted(stats.items())
        for name, values in sorted(one.known())
    }
    leaves = {name: Leaf(x.shape, x.dtype) for name, x in tensors.items()}
    write_safetensors(file, leaves, tensors.items())
