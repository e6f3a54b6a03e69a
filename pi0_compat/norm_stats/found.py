"""Find the norm stats of a checkpoint, openpi's or lerobot's, read them, and judge them."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.layout import Detected
from pi0_compat.layouts.orbax.folder import PARAMS
from pi0_compat.norm_stats.flaws import Flaw, flaws_in, flaws_of
from pi0_compat.norm_stats.lerobot_files import (
    ACTION,
    IDENTITY,
    NORMALIZER,
    OBSERVATION_STATE,
    POSTPROCESSOR,
    PREPROCESSOR,
    UNNORMALIZER,
    Normalizer,
    read_normalizer,
)
from pi0_compat.norm_stats.openpi_files import ASSETS, asset_files, read_norm_stats
from pi0_compat.norm_stats.stats import ACTIONS, STATE, NormStats
from pi0_compat.norm_stats.transfer import QUANTILES, USED_BY, Z_SCORE

_FEATURES = {OBSERVATION_STATE: STATE, ACTION: ACTIONS}


class Found(NamedTuple):
    """A file of norm stats of a checkpoint.

    Attributes:
      name: the asset id of openpi's, the pipeline's file name of lerobot's.
      file: the file, below ``root``.
      root: the folder of the checkpoint's step, or of the policy.
      stats: by ``state`` and ``actions``; empty if it cannot be read, or there are none.
      modes: of lerobot's, ``state`` and ``actions`` -> how they are normalized.
      problem: why it cannot be read; empty if it can.
    """

    name: str
    file: Path
    root: Path
    stats: NormStats
    modes: dict[str, str]
    problem: str = ""

    @property
    def label(self) -> str:
        """The file's path in the checkpoint."""
        return self.file.relative_to(self.root).as_posix()

    @property
    def serves(self) -> tuple[str, ...]:
        """The normalizations that it has all statistics for: z-score, quantiles."""
        ways = {Z_SCORE: ("mean", "std"), QUANTILES: ("q01", "q99")}
        return tuple(
            way for way, needed in ways.items() if self.stats and all(one.has(*needed) for one in self.stats.values())
        )

    def flaws(self, family: str | None = None, action_dim: int | None = None) -> list[Flaw]:
        """Return what is wrong with it, for a family or whichever; see ``flaws_of``. Of lerobot's, its modes count."""
        if self.problem:
            return [Flaw("", self.problem, True)]
        if self.modes:
            return [flaw for name, mode in self.modes.items() for flaw in self._flaws_by(name, mode)]
        return flaws_of(self.stats, family, action_dim)

    def _flaws_by(self, name: str, mode: str) -> Iterator[Flaw]:
        """Yield what is wrong with what lerobot normalizes by a mode."""
        if mode != IDENTITY and name not in self.stats:
            # A base policy has no statistics at all.
            yield Flaw(
                name, f"has no statistics, so that lerobot passes it unchanged and does no {mode}", bool(self.stats)
            )
        elif name in self.stats:
            yield from flaws_in(name, self.stats[name], USED_BY.get(mode, ()))


def norm_stats_of(checkpoint: Detected) -> list[Found]:
    """Return all norm stats that lie with a checkpoint, by name; what cannot be read has its problem."""
    path = checkpoint.path
    folder = path if path.is_dir() else path.parent
    places = [checkpoint.step, folder, path.parent if path.name == PARAMS else None]
    root = next((place for place in places if place and (place / ASSETS).is_dir()), None)
    found = [_openpi(name, file, root) for name, file in asset_files(root).items()] if root else []
    return [*found, *_lerobot(folder)]


def _openpi(name: str, file: Path, root: Path) -> Found:
    try:
        return Found(name, file, root, read_norm_stats(file), {})
    except CheckpointError as error:
        return Found(name, file, root, {}, {}, _without(file, str(error)))


def _lerobot(folder: Path) -> Iterator[Found]:
    for name, kind in ((PREPROCESSOR, NORMALIZER), (POSTPROCESSOR, UNNORMALIZER)):
        file = folder / name
        try:
            step = read_normalizer(file, kind)
        except CheckpointError as error:
            yield Found(name, file, folder, {}, {}, _without(file, str(error)))
            continue
        if step:
            yield Found(name, file, folder, _named(step), _modes(step, kind))


def _named(step: Normalizer) -> NormStats:
    return {ours: step.stats[theirs] for theirs, ours in _FEATURES.items() if theirs in step.stats}


def _modes(step: Normalizer, kind: str) -> dict[str, str]:
    """Return the modes that a pipeline has for what it normalizes; the second one undoes actions alone."""
    wanted = _FEATURES if kind == NORMALIZER else {ACTION: ACTIONS}
    return {
        ours: step.modes.get(step.features[theirs].kind, IDENTITY)
        for theirs, ours in wanted.items()
        if theirs in step.features
    }


def _without(file: Path, message: str) -> str:
    return message.removeprefix(f"{file}: ")
