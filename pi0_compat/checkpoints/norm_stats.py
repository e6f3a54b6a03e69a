"""Bring the norm stats along: they lie beside the parameters of a step, and a policy does not work without them."""

import shutil
import warnings
from pathlib import Path

from pi0_compat.layouts.layout import Detected, Layout
from pi0_compat.norm_stats.carry import Carried, carry_from_lerobot

ASSETS = "assets"


def bring_norm_stats(detected: Detected, folder: Path, family: str, asset_id: str | None) -> Carried:
    """Bring the norm stats of a checkpoint into another one's folder, in openpi's terms; warn if there are none.

    Args:
      detected: the checkpoint.
      folder: the folder of the new one's step.
      family: pi0, pi05 or pi0_fast, which decides how a lerobot policy's are written.
      asset_id: the name to write a lerobot policy's under.

    Returns:
      The asset id, empty for a folder that was copied whole; None if there are none.
    """
    if detected.layout is not Layout.LEROBOT:
        return Carried("" if copy_assets(beside(detected), folder) else None)
    policy = detected.path if detected.path.is_dir() else detected.path.parent
    carried = carry_from_lerobot(policy, folder, family, asset_id)
    if carried.asset_id is None:
        warnings.warn(f"{policy}: its processors have no statistics; a policy needs norm stats", stacklevel=3)
    return carried


def beside(detected: Detected) -> Path:
    """Return where openpi's norm stats are: in the folder of a checkpoint's step, or of its PyTorch file."""
    inside = detected.layout in (Layout.OPENPI_PYTORCH, Layout.LEROBOT) and detected.path.is_dir()
    return detected.path / ASSETS if inside else assets_beside(detected.path)


def copy_assets(assets: Path, folder: Path) -> bool:
    """Copy a folder of norm stats into another folder; return whether it exists, and warn if it does not."""
    if assets.is_dir():
        shutil.copytree(assets, folder / ASSETS)
        return True
    warnings.warn(f"{assets}: not there; a policy needs norm stats, copy them by hand", stacklevel=3)
    return False


def assets_beside(params: Path) -> Path:
    """Return where a checkpoint's norm stats are; openpi's converter looks one folder too high (docs/bugs.md#g4)."""
    return params.parent / ASSETS
