"""Statistics of states and actions by which a policy normalizes, as plain float64 arrays."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# openpi's names of what is normalized.
STATE, ACTIONS = "state", "actions"
# What openpi adds to every divisor (transforms.py:137-180 at 15a9616).
OPENPI_EPS = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stats:
    """Statistics of one array of vectors, each a float64 vector with an entry per dimension; None where unknown.

    Attributes:
      mean, std: mean and standard deviation, for z-scores.
      q01, q99: the quantiles 0.01 and 0.99, for openpi's pi0.5 and pi0-FAST.
      min, max, q10, q90: what lerobot has besides.
    """

    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    q01: np.ndarray | None = None
    q99: np.ndarray | None = None
    min: np.ndarray | None = None
    max: np.ndarray | None = None
    q10: np.ndarray | None = None
    q90: np.ndarray | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Stats":
        """Return statistics from numbers by name; names that are no fields are left out."""
        return cls(**{name: np.asarray(x, np.float64) for name, x in values.items() if name in FIELDS})

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a statistic that is known.

        Raises:
          KeyError: it is not.
        """
        if (values := getattr(self, name)) is None:
            raise KeyError(name)
        return np.asarray(values)

    def known(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield name and values of every known statistic."""
        for name in FIELDS:
            if (values := getattr(self, name)) is not None:
                yield name, values

    @property
    def sizes(self) -> dict[str, int]:
        """The number of dimensions of every known statistic."""
        return {name: values.shape[-1] if values.ndim else 1 for name, values in self.known()}

    @property
    def size(self) -> int:
        """The number of dimensions: of the longest statistic, if they differ."""
        return max(self.sizes.values(), default=0)

    def has(self, *names: str) -> bool:
        """Return whether all of these statistics are known."""
        return all(getattr(self, name) is not None for name in names)

    def same_as(self, other: "Stats") -> bool:
        """Return whether both have the same statistics with the same bits."""
        mine, theirs = dict(self.known()), dict(other.known())
        return mine.keys() == theirs.keys() and all(
            mine[name].shape == theirs[name].shape and mine[name].tobytes() == theirs[name].tobytes() for name in mine
        )


FIELDS = tuple(field.name for field in dataclasses.fields(Stats))
# openpi's name, state or actions -> its statistics.
NormStats = dict[str, Stats]
