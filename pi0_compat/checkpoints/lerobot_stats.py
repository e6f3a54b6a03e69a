"""Choose a checkpoint's norm stats, and write them so that lerobot computes what openpi computes.

openpi adds 1e-6 to every divisor, lerobot adds an epsilon that is in the pipeline's file (``transforms.py:137-180`` at
15a9616; lerobot ``processor/normalize_processor.py``):

* z-scores: lerobot divides by ``std + eps`` and multiplies by ``std``. With openpi's epsilon in the file the first is
  openpi's; for the second, the postprocessor's file has ``std + 1e-6``.
* quantiles: lerobot divides and multiplies by ``q99 - q01``, and by eps where that is zero. Both files have
  ``q99 + 1e-6``. Where float32 would lose that, a constant dimension has ``q99 = q01``: then eps is openpi's divisor.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pi0_compat.errors import LoadError
from pi0_compat.layouts.lerobot.options import LerobotOptions
from pi0_compat.layouts.lerobot.pipelines import EPS
from pi0_compat.layouts.lerobot.policy import ACTION, STATE, Statistics
from pi0_compat.norm_stats.openpi_files import asset_files, read_norm_stats
from pi0_compat.norm_stats.stats import ACTIONS, Stats
from pi0_compat.norm_stats.stats import STATE as OPENPI_STATE

# A normalized value may be this far from openpi's before its dimension is named.
TOLERANCE = 1e-6
_NAMES = {STATE: OPENPI_STATE, ACTION: ACTIONS}
_WRITTEN = ("mean", "std", "q01", "q99")


class StepStats(NamedTuple):
    """The norm stats of a checkpoint that were chosen.

    Attributes:
      file: where they are.
      asset_id: their name.
      stats: lerobot's feature -> openpi's statistics.
    """

    file: Path
    asset_id: str
    stats: dict[str, Stats]

    def size(self, feature: str) -> int:
        """Return the number of dimensions of a feature."""
        return self.stats[feature].size


class Written(NamedTuple):
    """Statistics in lerobot's terms, and the dimensions that float32 cannot hold, a sentence each."""

    statistics: Statistics
    inexact: tuple[str, ...]


def find_stats(step: Path, options: LerobotOptions, config_asset_id: str | None) -> StepStats:
    """Return the norm stats to take.

    Args:
      step: the folder that has ``assets``.
      options: which may name one of several asset ids.
      config_asset_id: the one that the named config takes, if it is known.

    Raises:
      LoadError: there are none, several and none is named, or they are not of a state and actions.
      CheckpointError: the file is damaged.
    """
    files = asset_files(step)
    if not files:
        raise LoadError(
            f"{step / 'assets'}: no norm stats, without which lerobot leaves states and actions as they are; put them "
            "there, or to write a policy without any say so: norm_stats=False (--without-norm-stats)"
        )
    wanted = options.asset_id or (config_asset_id if config_asset_id in files else None)
    if wanted is None and len(files) == 1:
        wanted = next(iter(files))
    if wanted not in files:
        found = f"no norm stats of {wanted!r}" if wanted else "norm stats of several robots"
        raise LoadError(f"{step / 'assets'}: {found}; name one of {', '.join(files)}: asset_id (--asset-id)")
    file = files[wanted]
    stats = read_norm_stats(file)
    if lacking := [name for name in _NAMES.values() if name not in stats]:
        raise LoadError(f"{file}: no norm stats of {lacking[0]}; found {', '.join(stats)}")
    if others := sorted(stats.keys() - set(_NAMES.values())):
        raise LoadError(f"{file}: norm stats of {others[0]}, which lerobot's policies have no place for")
    return StepStats(file, wanted, {feature: stats[name] for feature, name in _NAMES.items()})


def statistics_of(chosen: StepStats, sizes: dict[str, int], family: str) -> Written:
    """Return norm stats in lerobot's terms.

    Args:
      chosen: openpi's.
      sizes: feature -> numbers that it has; longer statistics are cut, as openpi cuts them, and shorter ones of actions
        leave the rest as it is.
      family: pi0 takes z-scores, the others take quantiles.

    Raises:
      LoadError: a statistic that the family needs is missing, or not finite.
    """
    before: dict[str, np.ndarray] = {}
    after: dict[str, np.ndarray] = {}
    inexact: list[str] = []
    for feature, size in sizes.items():
        stats = _fitted(chosen, feature, size, family)
        errors = _z_scores(stats) if family == "pi0" else _quantiles(stats)
        inexact += [
            f"{feature}[{n}]: float32 cannot hold its norm stats; normalized values are off by up to {errors[n]:.1e}"
            for n in np.flatnonzero(errors > TOLERANCE)
        ]
        before |= {f"{feature}.{name}": x.astype(np.float32) for name, x in stats.items()}
        if family == "pi0":
            stats = stats | {"std": stats["std"] + EPS}
        after |= {f"{feature}.{name}": x.astype(np.float32) for name, x in stats.items()}
    return Written(Statistics(before, after), tuple(inexact))


def _fitted(chosen: StepStats, feature: str, size: int, family: str) -> dict[str, np.ndarray]:
    """Return the statistics of a feature at its size, in float64."""
    needed = ("mean", "std") if family == "pi0" else ("q01", "q99")
    known = {name: x for name, x in chosen.stats[feature].known() if name in _WRITTEN}
    for name in needed:
        if name not in known:
            raise LoadError(
                f"{chosen.file}: the norm stats of {_NAMES[feature]} have no {name}, by which a {family} normalizes; "
                "compute them again"
            )
        if not np.isfinite(known[name][:size]).all():
            raise LoadError(f"{chosen.file}: {_NAMES[feature]}.{name} has a number that is not finite")
    # What openpi's Unnormalize does beyond the end of its statistics.
    beyond = {"mean": 0.0, "std": 1.0, "q01": -1.0, "q99": 1.0 - EPS}
    return {name: _resized(x, size, beyond[name]) for name, x in known.items()}


def _resized(x: np.ndarray, size: int, beyond: float) -> np.ndarray:
    return np.concatenate([x[:size], np.full(max(size - len(x), 0), beyond)])


def _z_scores(stats: dict[str, np.ndarray]) -> np.ndarray:
    """Return how far z-scores are from openpi's within a standard deviation of the mean, per dimension."""
    scale = stats["std"] + EPS
    shift = np.abs(_rounded(stats["mean"]) - stats["mean"])
    return (shift + np.abs(_rounded(stats["std"]) - stats["std"])) / scale


def _quantiles(stats: dict[str, np.ndarray]) -> np.ndarray:
    """Put openpi's epsilon into q99; return how far normalized values are from openpi's between the quantiles."""
    low, span = stats["q01"], stats["q99"] - stats["q01"] + EPS
    held = _rounded(low)
    high = _rounded(held + span)
    # With equal quantiles, lerobot divides by EPS.
    equal = np.abs(EPS - span) <= np.abs(high - held - span)
    stats["q99"] = np.where(equal, held, high)
    got = np.where(stats["q99"] == held, EPS, stats["q99"] - held)
    return 2 * (np.abs(held - low) + np.abs(got - span)) / span


def _rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32).astype(np.float64)
