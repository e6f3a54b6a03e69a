"""Copy the norm stats of a step: they lie beside its parameters, and a policy does not work without them."""

import shutil
import warnings
from pathlib import Path

ASSETS = "assets"


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
