"""Bring the norm stats of a lerobot policy into openpi's place, ``assets/<asset_id>/norm_stats.json``."""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pi0_compat.errors import CheckpointError
from pi0_compat.norm_stats.lerobot_files import has_processors, read_processors
from pi0_compat.norm_stats.openpi_files import ASSETS, FILE, asset_files, read_json, read_norm_stats, write_norm_stats
from pi0_compat.norm_stats.stats import OPENPI_EPS, NormStats, Stats
from pi0_compat.norm_stats.transfer import Z_SCORE, from_lerobot, normalization_of

_TRAIN_CONFIG = "train_config.json"
# An asset id becomes a folder: a name, or an owner and a name.
_PLAIN_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_DEFAULT_ID = "lerobot"
# A normalized value may differ by this much between statistics that are the same but for float32.
_SAME = 1e-4


class Carried(NamedTuple):
    """What became of a policy's norm stats.

    Attributes:
      asset_id: the folder below ``assets`` that they are in; None if the policy has none.
      notes: what is not exactly as before, in sentences.
    """

    asset_id: str | None
    notes: tuple[str, ...] = ()


def carry_from_lerobot(policy: Path, folder: Path, family: str, asset_id: str | None = None) -> Carried:
    """Write a policy's norm stats into the ``assets`` of a step, in openpi's terms.

    A policy that was converted from openpi has openpi's own file beside lerobot's; while it still says the same, it is
    copied, bit for bit.

    Args:
      policy: lerobot's folder.
      folder: the step to write into.
      family: pi0, pi05 or pi0_fast, which decides how openpi normalizes.
      asset_id: openpi's name for the robot; by default that of a file beside lerobot's, or the data set's repository,
        which is openpi's default too.

    Raises:
      ValueError: the asset id is no name of a folder.
      CheckpointError: a file is damaged.
      LoadError: lerobot normalizes what openpi has no place for.
    """
    if not has_processors(policy):
        return Carried(None)
    found = from_lerobot(read_processors(policy), family)
    if not found.stats:
        return Carried(None)
    kept = asset_files(policy)
    asset_id = asset_id or next(iter(kept), None) or _repository(policy) or _DEFAULT_ID
    if not _PLAIN_ID.fullmatch(asset_id):
        raise ValueError(f"asset_id={asset_id!r}: expected a name, or an owner and a name")
    place = folder / ASSETS / asset_id / FILE
    for file in kept.values():
        if _same(read_norm_stats(file), found.stats, family):
            place.parent.mkdir(parents=True)
            shutil.copyfile(file, place)
            return Carried(asset_id)
    stale = [f"{ASSETS}/{name}/{FILE} is not what the processors have, which were trained since" for name in kept]
    write_norm_stats(found.stats, place)
    return Carried(asset_id, (*found.notes, *stale))


def _repository(policy: Path) -> str | None:
    """Return the data set that the policy was trained on; None if that is not recorded, or is no name."""
    try:
        recorded = read_json(policy / _TRAIN_CONFIG, "a training of lerobot")
    except CheckpointError:
        return None
    dataset = recorded.get("dataset") if isinstance(recorded, dict) else None
    name = dataset.get("repo_id") if isinstance(dataset, dict) else None
    return name if isinstance(name, str) and _PLAIN_ID.fullmatch(name) else None


def _same(one: NormStats, other: NormStats, family: str) -> bool:
    """Return whether two sets of openpi's norm stats normalize alike."""
    return one.keys() == other.keys() and all(_alike(one[name], other[name], family) for name in one)


def _alike(one: Stats, other: Stats, family: str) -> bool:
    low, high = ("mean", "std") if normalization_of(family) == Z_SCORE else ("q01", "q99")
    if not (one.has(low, high) and other.has(low, high)) or one[low].shape != other[low].shape:
        return False
    ours, theirs = (stats[high] + OPENPI_EPS - (stats[low] if low == "q01" else 0) for stats in (one, other))
    scale = np.maximum(np.abs(ours), OPENPI_EPS)
    # Around a constant, float32 has no room for openpi's epsilon.
    room = _SAME * scale + np.finfo(np.float32).eps * np.maximum(np.abs(one[low]), np.abs(one[high])) + OPENPI_EPS
    return bool((np.abs(ours - theirs) <= room).all() and (np.abs(one[low] - other[low]) <= room).all())
