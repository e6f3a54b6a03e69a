"""A Gemma's token table for a model with more tokens: 256128 rows in Google's Gemma, 257152 in PaliGemma and pi0.

PaliGemma's further tokens stand for places and outlines in images. Its own training started them from random numbers
too (arXiv:2407.07726), so a Gemma can stand in for it only if that is asked for.
"""

import dataclasses
from pathlib import Path

import numpy as np

from suite.reference.accounting import Source
from suite.reference.load_report import LoadReport, Status
from suite.reference.params import Leaf
from suite.reference.pi0_config import Pi0Config

TABLE = "PaliGemma/llm/embedder/input_embedding"


class Extended:
    """A source whose token table has the model's number of rows; the additional ones are a fresh model's.

    Attributes:
      path: as the source's.
      leaves: as the source's, but for the shape of the token table.
    """

    def __init__(self, source: Source, model: Pi0Config, seed: int) -> None:
        self.path: Path = source.path
        self._source = source
        self._model, self._seed = model, seed
        self._stored = source.leaves.get(TABLE)
        self.leaves: dict[str, Leaf] = dict(source.leaves)
        if self._stored and len(self._stored.shape) == 2 and self._stored.shape[0] < model.vocab_size:
            self.leaves[TABLE] = Leaf((model.vocab_size, self._stored.shape[1]), self._stored.dtype)

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """One parameter; an extended table is float32, so that no fresh number is rounded."""
        if self.leaves[path] == self._source.leaves[path]:
            return self._source.read(path, dtype)
        array = self._source.read(path)
        fresh = np.asarray(self._model.init_params(self._seed, only=[path])[path])
        return np.concatenate([array.astype(np.float32), fresh[len(array) :]])

    def account(self, report: LoadReport) -> LoadReport:
        """The report, with what was extended told as such."""
        if self.leaves.get(TABLE) == self._stored:
            return report
        entries = tuple(
            dataclasses.replace(entry, status=Status.EXTENDED, found=self._stored) if entry.path == TABLE else entry
            for entry in report.entries
        )
        return dataclasses.replace(report, entries=entries)
