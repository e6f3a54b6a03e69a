"""Bring norm stats from lerobot's terms into openpi's and back, so that every number is normalized as before.

Both normalize by ``(x - shift) / scale``; they differ in what makes shift and scale, and in their epsilon:

* openpi (``transforms.py:137-180`` at 15a9616): z-score ``(x - mean) / (std + 1e-6)``, and its exact inverse; quantiles
  ``(x - q01) / (q99 - q01 + 1e-6) * 2 - 1``, and its exact inverse. pi0 takes z-scores, pi0.5 and pi0-FAST quantiles.
* lerobot 0.6.1 (``processor/normalize_processor.py``): ``(x - mean) / (std + 1e-8)``, inverse ``x std + mean``;
  ``2 (x - q01) / (q99 - q01) - 1``, where a range of exactly zero becomes 1e-8; min and max, q10 and q90 likewise.
  All in float32. A feature without statistics passes unchanged.
"""

from typing import NamedTuple

import numpy as np

from pi0_compat.errors import LoadError
from pi0_compat.norm_stats.lerobot_files import ACTION, IDENTITY, OBSERVATION_STATE, Normalizer, Processors
from pi0_compat.norm_stats.stats import ACTIONS, OPENPI_EPS, STATE, NormStats, Stats

Z_SCORE, QUANTILES = "z-score", "quantiles"
# lerobot's name of a mode -> the bounds that it maps to -1 and 1.
_BOUNDS = {"QUANTILES": ("q01", "q99"), "MIN_MAX": ("min", "max"), "QUANTILE10": ("q10", "q90")}
_MEAN_STD = "MEAN_STD"
# lerobot's name of a mode -> the statistics that it needs.
USED_BY: dict[str, tuple[str, ...]] = {_MEAN_STD: ("mean", "std"), **_BOUNDS}
_MODES = {Z_SCORE: _MEAN_STD, QUANTILES: "QUANTILES"}
# The share of a scale that float32 may round before a dimension is named.
_LOST = 1e-6


class Transferred(NamedTuple):
    """Statistics in the other's terms.

    Attributes:
      stats: the statistics, by the other's names.
      notes: what is not exactly as before, in words, with the dimensions.
    """

    stats: dict[str, Stats]
    notes: tuple[str, ...]


def normalization_of(family: str) -> str:
    """Return how openpi normalizes for a family: z-score for pi0, quantiles for the others (config.py:187)."""
    return Z_SCORE if family == "pi0" else QUANTILES


def statistics_of(family: str) -> tuple[str, ...]:
    """Return the statistics by which openpi normalizes for a family."""
    return USED_BY[lerobot_mode(family)]


def lerobot_mode(family: str) -> str:
    """Return the mode of lerobot that normalizes as openpi does for a family, for ``norm_map``."""
    return _MODES[normalization_of(family)]


def to_lerobot(stats: NormStats, family: str) -> Transferred:
    """Return openpi's statistics for lerobot's processors: with openpi's epsilon in them.

    Args:
      stats: openpi's, by ``state`` and ``actions``.
      family: pi0, pi05 or pi0_fast, which decides how they are used.

    Returns:
      Statistics of ``observation.state`` and ``action`` with float32 values, and the dimensions whose scale float32
      cannot hold.

    Raises:
      LoadError: a statistic that the family needs is missing, or there are statistics of something else.
    """
    names = {STATE: OBSERVATION_STATE, ACTIONS: ACTION}
    if strange := sorted(stats.keys() - names.keys()):
        raise LoadError(f"norm stats of {strange[0]}: lerobot has a place for {STATE} and {ACTIONS} only")
    found, notes = {}, []
    for name, one in stats.items():
        found[names[name]], lost = _to_lerobot(name, one, normalization_of(family))
        notes += lost
    return Transferred(found, tuple(notes))


def _to_lerobot(name: str, stats: Stats, normalization: str) -> tuple[Stats, list[str]]:
    known = {key: values.astype(np.float32) for key, values in stats.known()}
    shift, scale = ("mean", "std") if normalization == Z_SCORE else ("q01", "q99")
    _require(name, stats, shift, scale)
    wanted = stats[scale] - (0 if normalization == Z_SCORE else stats["q01"]) + OPENPI_EPS
    # Of quantiles the difference is what counts, and lerobot takes it in float32.
    start = np.zeros_like(known[scale]) if normalization == Z_SCORE else known["q01"]
    known[scale] = (start.astype(np.float64) + wanted).astype(np.float32)
    got = (known[scale] - start).astype(np.float64)
    apart = np.maximum(np.abs(got - wanted), np.abs(known[shift] - stats[shift])) > _LOST * np.abs(wanted)
    words = [f"{name} {dimensions(apart)}: float32 rounds {shift} or {scale} by a millionth or more"]
    return Stats.of(known), words if apart.any() else []


def from_lerobot(processors: Processors, family: str) -> Transferred:
    """Return lerobot's statistics for openpi: without lerobot's epsilon and with openpi's in mind.

    Where lerobot normalizes in another way than openpi does for the family, mean and std, or q01 and q99, are set to
    what gives the same numbers, and a note says so. A feature that lerobot passes unchanged gets such statistics too.

    Args:
      processors: of a policy folder.
      family: pi0, pi05 or pi0_fast, which decides how openpi uses them.

    Returns:
      Statistics of ``state`` and ``actions``; empty if the policy has none.

    Raises:
      LoadError: images are normalized, other features are, or actions are not denormalized as they are normalized.
    """
    before, after = processors
    for step in (before, after):
        if step:
            _refuse_others(step)
    found: NormStats = {}
    notes: list[str] = []
    normalization = normalization_of(family)
    if not any(step.stats for step in (before, after) if step):
        return Transferred({}, ())
    for name, feature in ((STATE, OBSERVATION_STATE), (ACTIONS, ACTION)):
        step, inverse = _decisive(processors, name)
        if step and (feature in step.features or feature in step.stats):
            found[name], words = _from_lerobot(step, feature, normalization, inverse=inverse)
            notes += [f"{name}{line}" for line in words]
    if before and after and ACTION in before.stats:
        _require_same_actions(before, after)
    return Transferred(found, tuple(notes))


def _decisive(processors: Processors, name: str) -> tuple[Normalizer | None, bool]:
    """Return the step whose numbers count, and whether it undoes: for actions what a robot gets from a policy.

    With openpi's epsilon in the file, as ``convert --to lerobot`` writes it, normalizing and undoing are the same.
    """
    before, after = processors
    if name == STATE or after is None or (before and before.eps == OPENPI_EPS and ACTION in before.stats):
        return before, False
    return after, True


class _Affine(NamedTuple):
    shift: np.ndarray
    scale: np.ndarray


def _affine(step: Normalizer, feature: str, *, inverse: bool) -> _Affine:
    """Return shift and scale by which a step normalizes a feature, or undoes it."""
    mode = step.mode(feature)
    if mode == IDENTITY:
        size = step.features[feature].shape[-1] if feature in step.features else step.stats[feature].size
        return _Affine(np.zeros(size), np.ones(size))
    stats = step.stats[feature]
    if mode == _MEAN_STD:
        _require(feature, stats, "mean", "std", path=step.path)
        return _Affine(stats["mean"], stats["std"] if inverse else stats["std"] + step.eps)
    if mode not in _BOUNDS:
        raise LoadError(f"{step.path}: the mode of {feature} is {mode!r}; expected {_MEAN_STD}, {', '.join(_BOUNDS)}")
    low, high = (_bound(step, feature, name) for name in _BOUNDS[mode])
    span = (high.astype(np.float32) - low.astype(np.float32)).astype(np.float64)
    span[span == 0] = step.eps
    return _Affine(low + span / 2, span / 2)


def _bound(step: Normalizer, feature: str, name: str) -> np.ndarray:
    values = getattr(step.stats[feature], name)
    if values is None:
        raise LoadError(f"{step.path}: {step.mode(feature)} of {feature} needs {name}, which is not there")
    return np.asarray(values)


def _from_lerobot(step: Normalizer, feature: str, normalization: str, *, inverse: bool) -> tuple[Stats, list[str]]:
    mode, stats = step.mode(feature), step.stats.get(feature, Stats())
    affine = _affine(step, feature, inverse=inverse)
    notes = [] if mode == _MODES[normalization] else [f": lerobot has {_in_words(mode)}, written as {normalization}"]
    z_score = {"mean": affine.shift, "std": np.maximum(affine.scale - OPENPI_EPS, 0)}
    if mode == _MEAN_STD and not inverse and step.eps == OPENPI_EPS:
        z_score["std"] = stats["std"]
    low = affine.shift - affine.scale
    if mode in _BOUNDS:
        low = _bound(step, feature, _BOUNDS[mode][0])
    quantiles = {"q01": low, "q99": np.maximum(low + 2 * affine.scale - OPENPI_EPS, low)}
    used, spare = (z_score, quantiles) if normalization == Z_SCORE else (quantiles, z_score)
    span = affine.scale if normalization == Z_SCORE else 2 * affine.scale
    if (small := span < OPENPI_EPS).any():
        notes.append(
            f" {dimensions(small)}: lerobot divides by less than {OPENPI_EPS:g}, which openpi adds; constant in the "
            "data, or nearly"
        )
    known = {name: values for name, values in stats.known() if name in ("mean", "std", "q01", "q99")}
    # openpi requires mean and std; quantiles may be missing where they are not used.
    return Stats(**{**(spare if normalization == QUANTILES else {}), **known, **used}), notes


def _in_words(mode: str) -> str:
    return "no statistics and passes it unchanged" if mode == IDENTITY else mode


def _refuse_others(step: Normalizer) -> None:
    """Reject normalized images and features that openpi has no place for."""
    for name, feature in step.features.items():
        mode = step.mode(name)
        if name not in (OBSERVATION_STATE, ACTION) and mode != IDENTITY:
            raise LoadError(
                f"{step.path}: {name} ({feature.kind}) is normalized by {mode}; openpi normalizes the state and the "
                "actions only"
            )


def _require_same_actions(before: Normalizer, after: Normalizer) -> None:
    """Require that actions are denormalized as they were normalized: openpi has one set of statistics for both."""
    one, other = _affine(before, ACTION, inverse=False), _affine(after, ACTION, inverse=True)
    if one.shift.shape != other.shift.shape:
        raise LoadError(
            f"{after.path}: actions have {other.shift.size} dimensions, {before.path.name} has {one.shift.size}"
        )
    floor = np.maximum(np.maximum(one.scale, other.scale), OPENPI_EPS)
    apart = (np.abs(one.shift - other.shift) > 1e-3 * floor) | (np.abs(one.scale - other.scale) > 1e-3 * floor)
    if apart.any():
        raise LoadError(
            f"{after.path}: actions are denormalized by other statistics than {before.path.name} normalizes them by, "
            f"in {dimensions(apart)}; openpi has one set for both"
        )


def _require(name: str, stats: Stats, *needed: str, path: object = None) -> None:
    if lacking := [key for key in needed if getattr(stats, key) is None]:
        raise LoadError(f"{f'{path}: ' if path else ''}norm stats of {name} have no {lacking[0]}")


def dimensions(marked: np.ndarray) -> str:
    """Return the marked dimensions in words, at most eight."""
    numbers = np.flatnonzero(marked)
    shown = ", ".join(map(str, numbers[:8]))
    return f"dimension{'s' if numbers.size > 1 else ''} {shown}{', ...' if numbers.size > 8 else ''}"
