"""What a load did to every parameter of the model and of the checkpoint."""

import dataclasses
import enum
from collections import Counter

from pi0_compat.params import Leaf
from pi0_compat.text import format_bytes, shorten


class Status(enum.Enum):
    """What became of a parameter."""

    LOADED = "loaded"  # from the checkpoint, unchanged
    CAST = "cast"  # from the checkpoint, in another dtype
    RESAMPLED = "resampled"  # from the checkpoint, computed for another image size, because that was asked for
    EXTENDED = "extended"  # from the checkpoint, with fresh rows for tokens that it lacks, because that was asked for
    INITIALISED = "initialised"  # in the model, not in the checkpoint: fresh
    DROPPED = "dropped"  # in the checkpoint, not in the model: not used
    MISSING = "missing"  # in the model, not in the checkpoint, and not allowed to be fresh


# What is told with both what was found and what came of it.
_CHANGED = (Status.CAST, Status.RESAMPLED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One parameter: what the model expects, what the checkpoint has, and what was done.

    Attributes:
      nonfinite: how many values of the loaded array are NaN or infinite; they are loaded as they are.
    """

    path: str
    status: Status
    expected: Leaf | None = None
    found: Leaf | None = None
    nonfinite: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes in the model, or in the checkpoint if it was dropped."""
        leaf = self.expected or self.found
        return 0 if leaf is None else leaf.num_bytes

    def __str__(self) -> str:
        change = f"{self.found} -> {self.expected}" if self.status in _CHANGED else f"{self.expected or self.found}"
        note = f", {self.nonfinite} values are not finite" if self.nonfinite else ""
        return f"{self.path}: {self.status.value} {change}{note}"


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """Every leaf of the model and of the checkpoint, accounted for; ``str`` tells it to a person.

    Attributes:
      source: the checkpoint.
      entries: one a leaf.
      notes: what had to be assumed.
    """

    source: str
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    def paths(self, *statuses: Status) -> list[str]:
        """The paths with one of these statuses, sorted."""
        return sorted(entry.path for entry in self.entries if entry.status in statuses)

    def count(self, status: Status) -> int:
        """How many parameters have the status."""
        return self._counts[status]

    def num_bytes(self, status: Status) -> int:
        """How many bytes the parameters with the status take."""
        return sum(entry.num_bytes for entry in self.entries if entry.status is status)

    def __str__(self) -> str:
        """A line of counts, then a line for everything that was not simply loaded."""
        ordered = sorted(self.entries, key=lambda entry: entry.path)
        lines = [f"{self.source}: {self._summary()}", *(f"  note: {note}" for note in self.notes)]
        lines += shorten([f"  {e}" for e in ordered if e.status not in (Status.LOADED, Status.CAST)])
        lines += [f"  cast {change}: {number} parameters" for change, number in sorted(self._casts().items())]
        lines += shorten([f"  {entry}" for entry in ordered if entry.nonfinite])
        return "\n".join(lines)

    @property
    def _counts(self) -> Counter[Status]:
        return Counter(entry.status for entry in self.entries)

    def _summary(self) -> str:
        counted = [status for status in Status if self.count(status)]
        parts = [f"{self.count(s)} {s.value} ({format_bytes(self.num_bytes(s))})" for s in counted]
        return ", ".join(parts) or "no parameters"

    def _casts(self) -> Counter[str]:
        """How many parameters went from which dtype to which."""
        leaves = [(e.found, e.expected) for e in self.entries if e.status is Status.CAST]
        return Counter(
            f"{found.dtype.name} -> {expected.dtype.name}" for found, expected in leaves if found and expected
        )
