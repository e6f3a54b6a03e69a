"""Say whether the norm stats beside a checkpoint fit a config: which file it takes, and what is wrong with each."""

from typing import NamedTuple

from pi0_compat.layouts.layout import Detected
from pi0_compat.model.named_data import data_facts
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.norm_stats.flaws import Flaw
from pi0_compat.norm_stats.found import Found, norm_stats_of


class StatsFit(NamedTuple):
    """A file of norm stats, and how it fits.

    Attributes:
      found: the file.
      flaws: what is wrong with it, for the config or the family of the checkpoint.
      is_taken: whether the config takes it; of lerobot's files, and where nothing tells, all are.
    """

    found: Found
    flaws: tuple[Flaw, ...]
    is_taken: bool

    @property
    def is_wrong(self) -> bool:
        """Whether a policy of the config could not normalize as it should."""
        return self.is_taken and any(flaw.is_wrong for flaw in self.flaws)


class StatsFits(NamedTuple):
    """All norm stats of a checkpoint.

    Attributes:
      files: each file.
      note: that the file which the config takes is not among them; empty if it is, or nothing tells.
    """

    files: tuple[StatsFit, ...] = ()
    note: str = ""

    @property
    def are_wrong(self) -> bool:
        """Whether a file that is taken is wrong."""
        return any(one.is_wrong for one in self.files)


def fit_norm_stats(
    checkpoint: Detected, family: str, model: Pi0Spec | None = None, config: str | None = None
) -> StatsFits:
    """Return how the norm stats beside a checkpoint fit a config, or without one its family.

    Args:
      checkpoint: what ``detect`` returned.
      family: what it was judged to be.
      model: the config's.
      config: its name, which decides which asset id is taken.
    """
    kind = model.family if model else _family(family)
    wanted = data_facts(config).asset_id if config else None
    files = norm_stats_of(checkpoint)
    ids = [one.name for one in files if not one.modes]
    is_there = wanted is None or wanted in ids
    note = "" if is_there or not ids else f"{config} takes the asset id {wanted}, which is not among {', '.join(ids)}"
    return StatsFits(
        tuple(
            StatsFit(
                one,
                tuple(one.flaws(kind, model.action_dim if model else None)),
                bool(one.modes) or wanted in (None, one.name),
            )
            for one in files
        ),
        note,
    )


def _family(words: str) -> str | None:
    if words in ("pi0", "pi05"):
        return words
    return "pi0_fast" if words.startswith("pi0-FAST") else None
