"""Checkpoints and batches that contracts share, written once a session, by ``fixtures``, never by a subject."""

import dataclasses
from pathlib import Path

import pytest

from fixtures import observations, openpi_orbax
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny, without_lora


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk, the model it is of, and the parameters that were written."""

    spec: ModelSpec
    path: str
    params: Params


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
