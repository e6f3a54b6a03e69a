"""Bring the norm stats along: they lie beside the parameters of a step, and a policy does not work without them."""

import json
import shutil
import warnings
from pathlib import Path
from typing import NoReturn

from pi0_compat.layouts.layout import Detected, Layout
from pi0_compat.norm_stats.carry import Carried, carry_from_lerobot
from pi0_compat.norm_stats.lerobot_files import has_processors
from pi0_compat.storage.foreign import what_it_is

ASSETS = "assets"
NORM_STATS = "norm_stats.json"


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
        return Carried("" if copy_assets(beside(detected), folder) else None)
    carried = carry_from_lerobot(policy, folder, family, asset_id)
    if carried.asset_id is None:
        warnings.warn(f"{policy}: its processors have no statistics; a policy needs norm stats", stacklevel=3)
    return carried


def beside(detected: Detected) -> Path:
    """Return where openpi's norm stats are: in the folder of a checkpoint's step, or of its PyTorch file."""
    inside = detected.layout in (Layout.OPENPI_PYTORCH, Layout.LEROBOT) and detected.path.is_dir()
    return detected.path / ASSETS if inside else assets_beside(detected.path)


def copy_assets(assets: Path, folder: Path) -> bool:
    """Copy a folder of norm stats into another folder; return whether it has some, and warn if not, or of bad ones."""
    if not assets.is_dir():
        warnings.warn(f"{assets}: not there; a policy needs norm stats, copy them by hand", stacklevel=3)
        return False
    shutil.copytree(assets, folder / ASSETS)
    files = sorted(assets.rglob(NORM_STATS))
    if not files:
        warnings.warn(f"{assets}: has no {NORM_STATS}; a policy needs norm stats, copy them by hand", stacklevel=3)
    for file in files:
        if problem := _problem(file):
            warnings.warn(f"{file}: {problem}; a policy cannot use it", stacklevel=3)
    return bool(files)


def _problem(file: Path) -> str | None:
    """Return why a file holds no norm stats: it is no JSON of numbers, or has numbers that are none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        return f"expected norm stats as JSON, found {what_it_is(file) or f'something else ({error})'}"
    return None if isinstance(content, dict) else f"expected norm stats by name, found a {type(content).__name__}"


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} among the numbers")


def assets_beside(params: Path) -> Path:
    """Return where a checkpoint's norm stats are; openpi's converter looks one folder too high (docs/bugs.md#g4)."""
    return params.parent / ASSETS
