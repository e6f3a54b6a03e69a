"""Faults: bugs that users reported, and typical mistakes, each as a small patch of the reference."""

from dataclasses import dataclass

from suite.subjects.patches.patched import Patch

__all__ = ["Fault", "Patch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A wrong variant of the reference.

    Attributes:
      id: unique; the subject ``fault:<id>`` is the reference with the patches applied.
      story: what is wrong and what it leads to, in one line.
      evidence: a link to the issue, commit or line where the bug was seen; for a mutation, the kind of mistake.
      patches: the wrong lines.
      caught_by: the contracts that fail on it, each on at least one case.
      bugs: ids in ``docs/bugs.md`` that it rebuilds; empty for a mutation that nobody reported.
    """

    id: str
    story: str
    evidence: str
    patches: tuple[Patch, ...]
    caught_by: tuple[str, ...]
    bugs: tuple[str, ...] = ()

    @property
    def historical(self) -> bool:
        """Whether it rebuilds a bug that somebody reported."""
        return bool(self.bugs)
