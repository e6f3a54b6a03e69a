"""Parameters that are there, as what is read a slab at a time."""

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
        """As a file would give them."""
        return cut(self.params[path])
