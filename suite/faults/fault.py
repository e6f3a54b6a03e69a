"""What a fault is: a bug that somebody met, or a classical mistake, as a few lines of patch on the reference."""

from dataclasses import dataclass

from suite.subjects.patches.patched import Patch

__all__ = ["Fault", "Patch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A wrong variant of the reference.

    Attributes:
      id: unique; the subject ``fault:<id>`` is the reference with the patches.
      story: what is wrong and what comes of it, one line.
      evidence: where it was met: a link to an issue, a commit or a line; of a mutation, which mistake it is.
      patches: the wrong lines.
      caught_by: the contracts that fail on it, each on at least one case.
      bugs: ids of ``docs/bugs.md`` that it rebuilds; none for a mutation that nobody reported.
    """

    id: str
    story: str
    evidence: str
    patches: tuple[Patch, ...]
    caught_by: tuple[str, ...]
    bugs: tuple[str, ...] = ()

    @property
    def historical(self) -> bool:
        """Whether somebody met it."""
        return bool(self.bugs)
