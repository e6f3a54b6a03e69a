"""Options from the description of a data set of lerobot's, ``meta/info.json``: sizes, names of actions, images.

``features`` is name -> ``dtype``, ``shape`` and ``names``; the names of a vector are a list, or a list by any key
(lerobot ``datasets/utils.py``, versions 2.0 to 3.0 of the format).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.lerobot.options import LerobotOptions
from pi0_compat.layouts.lerobot.policy import ACTION, STATE

_IMAGES = ("image", "video")


def with_dataset(options: LerobotOptions, file: Path) -> LerobotOptions:
    """Return options with what a data set tells; what they say themselves stays.

    Args:
      options: what the caller says.
      file: the data set's ``meta/info.json``.

    Raises:
      CheckpointError: the file is no description of a data set.
      LoadError: a camera is not in the data set, or it does not tell which camera an image is of.
    """
    features = _features(file)
    found: dict[str, Any] = {}
    for field, feature in (("state_dim", STATE), ("action_dim", ACTION)):
        if getattr(options, field) is None:
            found[field] = _size(file, feature, features)
    if options.action_names is None:
        found["action_names"] = _names(features[ACTION].get("names"), found.get("action_dim"))
    images = [name for name, feature in features.items() if feature.get("dtype") in _IMAGES]
    if options.cameras is None and images:
        raise LoadError(
            f"{file}: its images are {', '.join(images)}; say which of openpi's cameras each one is: "
            f"cameras={{'base_0_rgb': '{images[0]}'}} (--camera base_0_rgb={images[0]})"
        )
    if strange := [key for key in (options.cameras or {}).values() if key not in images]:
        raise LoadError(f"{file}: no image {strange[0]!r}; the data set has {', '.join(images) or 'none'}")
    return dataclasses.replace(options, **found)


def _features(file: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        features = {name: dict(feature) for name, feature in json.loads(file.read_text())["features"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: is no meta/info.json of a data set of lerobot's ({error!r:.200})") from error
    if lacking := [name for name in (STATE, ACTION) if name not in features]:
        raise CheckpointError(f"{file}: the data set has no {lacking[0]}; found {', '.join(features)}")
    return features


def _size(file: Path, name: str, features: Mapping[str, Mapping[str, Any]]) -> int:
    shape = features[name].get("shape")
    if not isinstance(shape, list) or len(shape) != 1 or type(shape[0]) is not int or shape[0] < 1:
        raise CheckpointError(f"{file}: {name} has the shape {shape!r:.80}; expected one size")
    return shape[0]


def _names(names: Any, size: int | None) -> tuple[str, ...] | None:
    """Return the names of a vector; None if there are none, or they are not one for each dimension."""
    if isinstance(names, Mapping) and len(names) == 1:
        names = next(iter(names.values()))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) if size is None or len(names) == size else None
