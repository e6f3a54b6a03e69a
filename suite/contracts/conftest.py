"""Checkpoints and batches that contracts share, written once a session, by ``fixtures``, never by a subject."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures import observations
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny, wide, without_lora
from fixtures.writers import openpi_orbax
from suite.subjects.process.elsewhere import Elsewhere, elsewhere
from suite.subjects.protocol import Subject


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk, the model it is of, and the parameters that were written."""

    spec: ModelSpec
    path: str
    params: Params

    @property
    def num_bytes(self) -> int:
        """What its arrays take."""
        return sum(array.nbytes for array in self.params.values())


def write_checkpoint(spec: ModelSpec, path: Path) -> Checkpoint:
    """The spec's model in openpi's layout."""
    return Checkpoint(spec, str(path), openpi_orbax.build(spec, path))


@pytest.fixture(scope="session")
def lora_spec() -> ModelSpec:
    """A pi0 with adapters on both experts: alpha != rank, and four ranks: by expert, by attention and feed-forward."""
    return tiny("pi0", lora="both")


@pytest.fixture(scope="session")
def base_spec(lora_spec: ModelSpec) -> ModelSpec:
    """The same pi0 without adapters."""
    return without_lora(lora_spec)


@pytest.fixture(scope="session")
def base_checkpoint(base_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return write_checkpoint(base_spec, tmp_path_factory.mktemp("base") / "params")


@pytest.fixture(scope="session")
def lora_checkpoint(lora_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Both matrices of every adapter are non-zero, as after training."""
    return write_checkpoint(lora_spec, tmp_path_factory.mktemp("lora") / "params")


@pytest.fixture(scope="session")
def batch(base_spec: ModelSpec) -> Params:
    """Two observations with actions, noise and time; the second has a masked camera and a padded prompt."""
    return observations.batch(base_spec)


@pytest.fixture(scope="session")
def wide_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkpoint]:
    """A base model large enough (300 MB) that its bytes show beside what a process takes anyway."""
    folder = tmp_path_factory.mktemp("wide")
    yield write_checkpoint(wide(), folder / "params")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def eight_devices(subject: Subject) -> Iterator[Elsewhere]:
    """The subject in a process that has eight devices."""
    with elsewhere(subject, devices=8) as there:
        yield there


@pytest.fixture(scope="session")
def one_device(subject: Subject) -> Iterator[Elsewhere]:
    """The subject in a process of its own, to count its memory."""
    with elsewhere(subject) as there:
        yield there
