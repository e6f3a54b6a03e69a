"""Recognize a policy folder of lerobot by its ``config.json``."""

from collections.abc import Mapping
from typing import Any

FAMILIES = ("pi0", "pi05", "pi0_fast")
# Two fields that every policy's config has, and no other config.json of a pi0.
_FIELDS = ("input_features", "output_features")


def policy_family(recorded: Mapping[str, Any]) -> str | None:
    """Return the family of a policy; None if the ``config.json`` is not one of a pi0 of lerobot's.

    Args:
      recorded: the content of ``config.json``; may be empty.
    """
    family = recorded.get("type")
    is_policy = family in FAMILIES and all(name in recorded for name in _FIELDS)
    return str(family) if is_policy else None
