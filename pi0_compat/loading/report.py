"""Report what a load did to every parameter of the model and of the checkpoint."""

import dataclasses
import enum
from collections import Counter

from pi0_compat.params import Leaf
from pi0_compat.text import format_bytes, shorten


class Status(enum.Enum):
    """What happened to a parameter."""

    LOADED = "loaded"  # from the checkpoint, unchanged
    CAST = "cast"  # from the checkpoint, in another dtype
    RESAMPLED = "resampled"  # from the checkpoint, computed for another image size, on request
    EXTENDED = "extended"  # from the checkpoint, with fresh rows for tokens that it lacks, on request
    INITIALIZED = "initialized"  # in the model, not in the checkpoint: fresh
    DROPPED = "dropped"  # in the checkpoint, not in the model: not used
    MISSING = "missing"  # in the model, not in the checkpoint, and not allowed to be fresh


# Reported with both the leaf found and the leaf that it became.
_CHANGED = (Status.CAST, Status.RESAMPLED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One parameter: what the model expects, what the checkpoint has, and what was done.

    Attributes:
      expected: shape and dtype in the model; None if it does not have the parameter.
      found: shape and dtype in the checkpoint; None if it does not have the parameter.
      nonfinite: how many values of the loaded array are NaN or infinite; they are loaded unchanged.
    """

    path: str
    status: Status
    expected: Leaf | None = None
    found: Leaf | None = None
    nonfinite: int = 0

    @property
    def num_bytes(self) -> int:
        """The bytes in the model, or in the checkpoint if the parameter was dropped."""
        leaf = self.expected or self.found
        return 0 if leaf is None else leaf.num_bytes

    def __str__(self) -> str:
        change = f"{self.found} -> {self.expected}" if self.status in _CHANGED else f"{self.expected or self.found}"
        note = f", {self.nonfinite} values are not finite" if self.nonfinite else ""
        return f"{self.path}: {self.status.value} {change}{note}"


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """An account of every leaf of the model and of the checkpoint; ``str`` renders it.

    Attributes:
      source: the checkpoint.
      entries: one for each leaf.
      notes: assumptions that the loader made.
    """

    source: str
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    def paths(self, *statuses: Status) -> list[str]:
        """Return the paths with one of these statuses, sorted."""
        return sorted(entry.path for entry in self.entries if entry.status in statuses)

    def count(self, status: Status) -> int:
        """Return the number of parameters with the status."""
        return self._counts[status]

    def num_bytes(self, status: Status) -> int:
        """Return the bytes of the parameters with the status."""
        return sum(entry.num_bytes for entry in self.entries if entry.status is status)

    def __str__(self) -> str:
        """Return a line of counts, then a line for everything that was not simply loaded."""
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
        """Count the parameters by the dtypes that they were cast from and to."""
        leaves = [(e.found, e.expected) for e in self.entries if e.status is Status.CAST]
        return Counter(
            f"{found.dtype.name} -> {expected.dtype.name}" for found, expected in leaves if found and expected
        )
