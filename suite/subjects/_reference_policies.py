"""lerobot's policy folders in the reference's harness: written by the library, and run with openpi's formulas."""

from pathlib import Path
from typing import Any

from pi0_compat.checkpoints.convert import convert_checkpoint
from pi0_compat.layouts.lerobot.options import LerobotOptions
from pi0_compat.model.config import Pi0Config
from pi0_compat.norm_stats.lerobot_files import read_processors
from pi0_compat.norm_stats.stats import OPENPI_EPS, Stats
from pi0_compat.norm_stats.transfer import from_lerobot

Data = dict[str, Any]


def write(model: Data, path: str, out: str, options: Data) -> None:
    said: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in options.items()}
    convert_checkpoint(path, out, config=Pi0Config.from_json(model), layout="lerobot", lerobot=LerobotOptions(**said))


class Normalization:
    """How openpi normalizes by a policy's statistics (transforms.py:137-180)."""

    def __init__(self, path: str, family: str) -> None:
        self._stats = from_lerobot(read_processors(Path(path)), family).stats
        self._names = ("mean", "std") if family == "pi0" else ("q01", "q99")

    def forward(self, name: str, x: Any) -> Any:
        shift, scale = self._affine(self._stats[name])
        return (x - shift) / scale

    def back(self, name: str, x: Any) -> Any:
        shift, scale = self._affine(self._stats[name])
        return x * scale + shift

    def _affine(self, stats: Stats) -> tuple[Any, Any]:
        low, high = (stats[name] for name in self._names)
        if self._names[0] == "mean":
            return low, high + OPENPI_EPS
        half = (high - low + OPENPI_EPS) / 2
        return low + half, half
