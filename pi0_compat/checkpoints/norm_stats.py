"""Bring the norm stats along: they lie beside the parameters of a step, and a policy does not work without them."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.layout import Detected, Layout
from pi0_compat.layouts.lerobot.recognize import FAMILIES
from pi0_compat.norm_stats.carry import Carried, carry_from_lerobot
from pi0_compat.norm_stats.flaws import flaws_of
from pi0_compat.norm_stats.lerobot_files import has_processors
from pi0_compat.norm_stats.openpi_files import ASSETS, FILE, asset_files, read_norm_stats


def bring_norm_stats(detected: Detected, folder: Path, family: str, asset_id: str | None) -> Carried:
    """Bring the norm stats of a checkpoint into another one's folder, in openpi's terms; warn if there are none.

    Args:
      detected: the checkpoint, or a PEFT adapter of lerobot's.
      folder: the folder of the new one's step.
      family: pi0, pi05 or pi0_fast, which decides how a lerobot policy's are written.
      asset_id: the name to write a lerobot policy's under.

    Returns:
      The asset id, empty for a folder that was copied whole; None if there are none.
    """
    policy = detected.path if detected.path.is_dir() else detected.path.parent
    if not has_processors(policy):
        return Carried("" if copy_assets(beside(detected), folder, family) else None)
    carried = carry_from_lerobot(policy, folder, family, asset_id)
    if carried.asset_id is None:
        warnings.warn(f"{policy}: its processors have no statistics; a policy needs norm stats", stacklevel=3)
    return carried


def beside(detected: Detected) -> Path:
    """Return where openpi's norm stats are: in the folder of a checkpoint's step, or of its PyTorch file."""
    inside = detected.layout in (Layout.OPENPI_PYTORCH, Layout.LEROBOT) and detected.path.is_dir()
    return detected.path / ASSETS if inside else assets_beside(detected.path)


def copy_assets(assets: Path, folder: Path, family: str | None = None) -> bool:
    """Copy a folder of norm stats into another folder; warn if there are none, or of those that are wrong.

    Args:
      assets: the folder.
      folder: the one to copy it into.
      family: pi0, pi05 or pi0_fast, which decides what of the statistics is used; with any other words all of them
        are judged, as names alone do not tell a pi0-FAST from a PaliGemma.

    Returns:
      Whether it has norm stats.
    """
    if not assets.is_dir():
        warnings.warn(f"{assets}: not there; a policy needs norm stats, copy them by hand", stacklevel=3)
        return False
    shutil.copytree(assets, folder / ASSETS)
    files = asset_files(assets.parent)
    if not files:
        warnings.warn(f"{assets}: has no {FILE}; a policy needs norm stats, copy them by hand", stacklevel=3)
    for file in files.values():
        for problem in _problems(file, family):
            warnings.warn(f"{problem}; a policy cannot use it", stacklevel=3)
    return bool(files)


def _problems(file: Path, family: str | None) -> Iterator[str]:
    """Yield why a policy cannot normalize by a file."""
    try:
        flaws = flaws_of(read_norm_stats(file), family if family in FAMILIES else None)
    except CheckpointError as error:
        yield str(error)
        return
    yield from (f"{file}: {flaw}" for flaw in flaws if flaw.is_wrong)


def assets_beside(params: Path) -> Path:
    """Return where a checkpoint's norm stats are; openpi's converter looks one folder too high (docs/bugs.md#g4)."""
    return params.parent / ASSETS
