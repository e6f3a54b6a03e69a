"""Fixtures shared by contracts: checkpoints and batches, written once per session, never by a subject."""

import shutil
from collections.abc import Iterator

import pytest

from fixtures import observations
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny, wide, without_lora
from suite.contracts.checkpoints import Checkpoint, write_checkpoint
from suite.contracts.training_runs import Runs
from suite.subjects.process.elsewhere import Elsewhere, elsewhere
from suite.subjects.protocol import Subject
from suite.writing.loads import Loads
from suite.writing.remembered import Remembered


@pytest.fixture(scope="session")
def lora_spec() -> ModelSpec:
    """A pi0 with adapters on both experts. Alpha != rank, and each expert's attention and feed-forward has its own
    rank, so four in all."""
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
    """A base model large enough (300 MB) to stand out from a process's other memory."""
    folder = tmp_path_factory.mktemp("wide")
    yield write_checkpoint(wide(), folder / "params")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def remembered(subject: Subject) -> Remembered:
    """The subject's answers that several laws judge."""
    return Remembered()


@pytest.fixture(scope="session")
def runs(subject: Subject, remembered: Remembered, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The subject's short training runs."""
    return Runs(subject, remembered, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def loads(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Loads:
    """The subject's loads of cases, each done once."""
    return Loads(subject, tmp_path_factory.mktemp("loads"))


@pytest.fixture(scope="session")
def eight_devices(subject: Subject) -> Iterator[Elsewhere]:
    """The subject in a separate process with eight devices."""
    with elsewhere(subject, devices=8) as process:
        yield process


@pytest.fixture(scope="session")
def one_device(subject: Subject) -> Iterator[Elsewhere]:
    """The subject in a separate process, to measure its memory."""
    with elsewhere(subject) as process:
        yield process
