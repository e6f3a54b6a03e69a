"""Golden checkpoints of openpi as the folder of a step with norm stats, and a policy folder's numbers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from fixtures.golden_cases import GOLDEN
from fixtures.lerobot_files import NORM_STATS
from pi0_compat import convert_checkpoint
from pi0_compat.checkpoints.convert import Converted
from pi0_compat.layouts.lerobot.options import LerobotOptions
from pi0_compat.norm_stats.lerobot_files import Normalizer, read_processors
from tests.pi0_compat.norm_stats.formulas import lerobot, lerobot_back

FAMILIES = ("pi0", "pi05")
STATS = Path("assets") / "robot" / "norm_stats.json"


def step(folder: Path, case: str = "pi0_base", stats: Path | None = NORM_STATS) -> Path:
    """Make the folder of a step; return it."""
    shutil.copytree(GOLDEN / case / "params", folder / "params")
    if stats:
        (folder / STATS).parent.mkdir(parents=True)
        shutil.copyfile(stats, folder / STATS)
    return folder


def policy(tmp_path: Path, family: str = "pi0", config: str = "", out: str = "policy", **options: Any) -> Converted:
    """Write a golden checkpoint of a family as lerobot's policy folder ``out``."""
    if not (tmp_path / family).exists():
        step(tmp_path / family, f"{family}_base")
    return convert_checkpoint(
        tmp_path / family,
        tmp_path / out,
        config=config or f"{family}_base_tiny",
        layout="lerobot",
        lerobot=LerobotOptions(**options),
    )


def normalizers(folder: Path) -> tuple[Normalizer, Normalizer]:
    """Return the normalizing steps of a policy folder, which has both."""
    before, after = read_processors(folder)
    assert before
    assert after
    return before, after


def normalize(folder: Path, feature: str, x: np.ndarray) -> np.ndarray:
    """Return x as lerobot's preprocessor normalizes it."""
    before, _ = normalizers(folder)
    return lerobot(x, before.stats[feature], before.mode(feature), before.eps)


def denormalize(folder: Path, feature: str, x: np.ndarray) -> np.ndarray:
    """Return x as lerobot's postprocessor denormalizes it."""
    _, after = normalizers(folder)
    return lerobot_back(x, after.stats[feature], after.mode(feature), after.eps)
