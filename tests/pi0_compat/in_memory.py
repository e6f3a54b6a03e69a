"""Parameters in memory as a source that is read slab by slab."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fixtures.params import Params
from pi0_compat.params import leaves_of
from pi0_compat.storage.stream import Source, cut


class InMemory(Source):
    """A source of arrays in memory."""

    def __init__(self, params: Params) -> None:
        self.path, self.params, self.leaves = Path("memory"), params, leaves_of(params)

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield the slabs that a file would give."""
        return cut(self.params[path])
