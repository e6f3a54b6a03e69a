"""Resample position embeddings for another resolution, and extend a token table.

The embeddings of a square grid of patches are interpolated bilinearly; the corners of both grids are the same points.
big_vision does so (``models/vit.py`` ``resample_posemb``, with ``scipy.ndimage.zoom``); PaliGemma was trained with it.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pi0_compat.errors import LoadError
from pi0_compat.loading.report import LoadReport, Status
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Leaf
from pi0_compat.paths import POSITION_TABLE, TOKEN_TABLE
from pi0_compat.storage.stream import Source, cut


class Resampled(Source):
    """A source whose position embeddings are resampled to the model's number of patches.

    Attributes:
      path: the source's.
      leaves: the source's, but for the shape of the position embeddings.
    """

    def __init__(self, source: Source, model: Pi0Spec) -> None:
        self.path: Path = source.path
        self._source = source
        self._stored = source.leaves.get(POSITION_TABLE)
        self.leaves: dict[str, Leaf] = dict(source.leaves)
        self._patches = (model.image_size // model.siglip.patch_size) ** 2
        if self._stored and self._differ(self._stored):
            _require_square(source.path, self._stored)
            self.leaves[POSITION_TABLE] = Leaf((1, self._patches, self._stored.shape[-1]), self._stored.dtype)

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a parameter; resampled position embeddings are float32, so that they are rounded at most once."""
        if self.leaves[path] == self._source.leaves[path]:
            return self._source.read(path, dtype)
        return resample(self._source.read(path), self._patches)

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a parameter in slabs; resampled position embeddings are computed whole."""
        return cut(self.read(path)) if self.leaves[path] != self._source.leaves[path] else self._source.slabs(path)

    def account(self, report: LoadReport) -> LoadReport:
        """Return the report with the resampled position embeddings marked as such."""
        if self.leaves.get(POSITION_TABLE) == self._stored:
            return report
        entries = tuple(
            dataclasses.replace(entry, status=Status.RESAMPLED, found=self._stored)
            if entry.path == POSITION_TABLE
            else entry
            for entry in report.entries
        )
        return dataclasses.replace(report, entries=entries)

    def _differ(self, stored: Leaf) -> bool:
        return len(stored.shape) == 3 and stored.shape[1] != self._patches


def resample(positions: np.ndarray, patches: int) -> np.ndarray:
    """Return position embeddings of a square grid, interpolated for another grid.

    Args:
      positions: [1, P, W].
      patches: the number of patches of the new grid, a square.

    Returns:
      float32 [1, patches, W].
    """
    old, new = math.isqrt(positions.shape[1]), math.isqrt(patches)
    grid = positions.reshape(old, old, -1).astype(np.float32)
    weights = _weights(old, new)
    return np.einsum("ai,bj,ijw->abw", weights, weights, grid).reshape(1, patches, -1)


def _weights(old: int, new: int) -> np.ndarray:
    """Return the weight of each old point of a line in each new one, [new, old]."""
    points = np.linspace(0, old - 1, new)
    return np.stack([np.interp(points, np.arange(old), row) for row in np.eye(old)], axis=1).astype(np.float32)


def _require_square(path: Path, stored: Leaf) -> None:
    if math.isqrt(stored.shape[1]) ** 2 != stored.shape[1] or not stored.shape[1]:
        raise LoadError(f"{path}: {POSITION_TABLE} is {stored}, not a square grid of patches, and cannot be resampled")


class Extended(Source):
    """A source whose token table has the model's number of rows; the additional ones are a fresh model's.

    Attributes:
      path: the source's.
      leaves: the source's, but for the shape of the token table.
    """

    def __init__(self, source: Source, model: Pi0Spec, seed: int) -> None:
        self.path: Path = source.path
        self._source = source
        self._model, self._seed = model, seed
        self._stored = source.leaves.get(TOKEN_TABLE)
        self.leaves: dict[str, Leaf] = dict(source.leaves)
        if self._stored and len(self._stored.shape) == 2 and self._stored.shape[0] < model.vocab_size:
            self.leaves[TOKEN_TABLE] = Leaf((model.vocab_size, self._stored.shape[1]), self._stored.dtype)

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a parameter; an extended table is float32, so that no fresh value is rounded."""
        if self.leaves[path] == self._source.leaves[path]:
            return self._source.read(path, dtype)
        array = self._source.read(path)
        fresh = np.asarray(self._model.init_params(self._seed, only=[path])[path])
        return np.concatenate([array.astype(np.float32), fresh[len(array) :]])

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a parameter in slabs; an extended table is computed whole."""
        return cut(self.read(path)) if self.leaves[path] != self._source.leaves[path] else self._source.slabs(path)

    def account(self, report: LoadReport) -> LoadReport:
        """Return the report with the extended table marked as such."""
        if self.leaves.get(TOKEN_TABLE) == self._stored:
            return report
        entries = tuple(
            dataclasses.replace(entry, status=Status.EXTENDED, found=self._stored)
            if entry.path == TOKEN_TABLE
            else entry
            for entry in report.entries
        )
        return dataclasses.replace(report, entries=entries)
