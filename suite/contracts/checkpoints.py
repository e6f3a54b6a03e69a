"""Checkpoints that contracts read: files, model spec and the parameters they were written from."""

import dataclasses
from pathlib import Path

from fixtures.params import Params
from fixtures.specs import ModelSpec
from fixtures.writers import openpi


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
      spec: the model it holds.
      path: its parameter folder.
      params: the parameters that were written.
    """

    spec: ModelSpec
    path: str
    params: Params

    @property
    def num_bytes(self) -> int:
        """Total size of the arrays."""
        return sum(array.nbytes for array in self.params.values())


def write_checkpoint(spec: ModelSpec, path: Path) -> Checkpoint:
    """Write a model's test parameters to ``path`` in openpi's layout."""
    return Checkpoint(spec, str(path), openpi.build(spec, path))
