"""How openpi and lerobot normalize, as their sources say, for arrays of float64 and float32.

openpi: transforms.py:137-180 at 15a9616. lerobot: processor/normalize_processor.py at 0.6.1.
"""

import numpy as np

from pi0_compat.norm_stats.stats import Stats


def openpi(x: np.ndarray, stats: Stats, family: str) -> np.ndarray:
    """Return x as openpi normalizes it."""
    if family == "pi0":
        return (x - stats["mean"]) / (stats["std"] + 1e-6)
    return (x - stats["q01"]) / (stats["q99"] - stats["q01"] + 1e-6) * 2.0 - 1.0


def openpi_back(x: np.ndarray, stats: Stats, family: str) -> np.ndarray:
    """Return normalized x as openpi denormalizes it."""
    if family == "pi0":
        return x * (stats["std"] + 1e-6) + stats["mean"]
    return (x + 1.0) / 2.0 * (stats["q99"] - stats["q01"] + 1e-6) + stats["q01"]


def lerobot(x: np.ndarray, stats: Stats, mode: str, eps: float = 1e-8) -> np.ndarray:
    """Return x as lerobot normalizes it, in float32."""
    x, known = x.astype(np.float32), {name: values.astype(np.float32) for name, values in stats.known()}
    if mode == "MEAN_STD":
        return (x - known["mean"]) / (known["std"] + np.float32(eps))
    low, span = _bounds(known, mode, eps)
    return np.float32(2) * (x - low) / span - np.float32(1)


def lerobot_back(x: np.ndarray, stats: Stats, mode: str, eps: float = 1e-8) -> np.ndarray:
    """Return normalized x as lerobot denormalizes it, in float32."""
    x, known = x.astype(np.float32), {name: values.astype(np.float32) for name, values in stats.known()}
    if mode == "MEAN_STD":
        return x * known["std"] + known["mean"]
    low, span = _bounds(known, mode, eps)
    return (x + np.float32(1)) * span / np.float32(2) + low


def _bounds(known: dict[str, np.ndarray], mode: str, eps: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = {"QUANTILES": ("q01", "q99"), "MIN_MAX": ("min", "max"), "QUANTILE10": ("q10", "q90")}[mode]
    span = known[high] - known[low]
    return known[low], np.where(span == 0, np.float32(eps), span)
