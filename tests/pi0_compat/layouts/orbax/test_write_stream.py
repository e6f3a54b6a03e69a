"""Checkpoints written slab by slab: orbax, openpi's reader and the loaders restore the right parameters."""

import json
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fixtures import content
from fixtures.params import Params
from fixtures.specs import tiny
from fixtures.writers.openpi import read_params
from pi0_compat import restore_params, save_params
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax import write_stream as streamed_saving
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.orbax.read_stream import StoredParameters
from pi0_compat.layouts.orbax.write_stream import chunk_shape, save_streamed
from pi0_compat.model.config import Pi0Config
from pi0_compat.params import Leaf, leaves_of
from pi0_compat.storage.digests import Digest
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.in_memory import InMemory

SPEC = tiny("pi0", lora="both")
MODEL = Pi0Config.from_json({**SPEC})
PARAMS = content.params(SPEC)
ODD: Params = {
    "a/scalar": np.ones((), np.float32),
    "b": np.ones((2, 3), ml_dtypes.bfloat16),
    "c": np.array([np.nan, -0.0, np.inf], np.float64),
    "d": np.zeros((5, 7), np.float16),
}


@pytest.mark.parametrize("params", [PARAMS, ODD], ids=["model", "odd"])
def test_every_bit_is_read_back(tmp_path: Path, params: Params) -> None:
    """orbax's own reader and ours restore every bit, and the digests equal those of an unstreamed save."""
    save_streamed(InMemory(params), tmp_path / "streamed", lora=MODEL.lora)
    save_params(params, tmp_path / "whole")
    assert_same_bits(read_params(tmp_path / "streamed"), params)
    assert_same_bits(restore_params(tmp_path / "streamed", restore_type=np.ndarray), params)
    assert read_metadata(tmp_path / "streamed").digests == read_metadata(tmp_path / "whole").digests
    assert read_metadata(tmp_path / "streamed").lora == MODEL.lora


def test_the_metadata_equal_those_of_orbax(tmp_path: Path) -> None:
    """Except for our own metadata, the files beside the arrays equal those of a save through orbax."""
    save_streamed(InMemory(PARAMS), tmp_path / "streamed", lora=MODEL.lora)
    save_params(PARAMS, tmp_path / "whole", config=MODEL)
    streamed, whole = (json.loads((tmp_path / name / "_METADATA").read_text()) for name in ("streamed", "whole"))
    # Orbax 0.11 does not record that it uses one store.
    assert streamed == {"use_ocdbt": True} | whole
    names = [{file.name for file in (tmp_path / name).iterdir()} for name in ("streamed", "whole")]
    # Orbax 0.11 leaves no mark of its success.
    assert names[0] - names[1] <= {"commit_success.txt"}
    assert names[1] <= names[0]


def test_times_and_handler_are_noted_as_orbax_notes_them(tmp_path: Path) -> None:
    """The file of a save as a whole has orbax's keys and handler, and times that bracket the save."""
    before = time.time_ns()
    save_streamed(InMemory(PARAMS), tmp_path / "streamed", lora=None)
    save_params(PARAMS, tmp_path / "whole")
    streamed, whole = (
        json.loads((tmp_path / name / "_CHECKPOINT_METADATA").read_text()) for name in ("streamed", "whole")
    )
    assert streamed.keys() == whole.keys()
    times = [streamed.pop(f"{name}_timestamp_nsecs") for name in ("init", "commit")]
    assert before <= times[0] < times[1] <= time.time_ns()
    assert {key: whole[key] for key in streamed} == streamed


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    """Nothing is written into a folder that is there already."""
    (tmp_path / "params").mkdir()
    with pytest.raises(FileExistsError):
        save_streamed(InMemory(PARAMS), tmp_path / "params", lora=None)
    assert not list((tmp_path / "params").iterdir())


def test_large_arrays_have_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array above the limit has several chunks, and both readers restore it."""
    monkeypatch.setattr(streamed_saving, "_LARGEST_CHUNK", 1000)
    save_streamed(InMemory(PARAMS), tmp_path / "params", lora=None)
    assert_same_bits(read_params(tmp_path / "params"), PARAMS)
    stored = StoredParameters(read_metadata(tmp_path / "params"))
    largest = max(PARAMS, key=lambda path: PARAMS[path].nbytes)
    assert stored._arrays[largest].chunk != PARAMS[largest].shape


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [
        ((18, 2, 2048, 16_384), (1, 1, 1024, 16_384)),
        ((18, 16_384, 2048), (1, 8192, 2048)),
        ((257_152, 2048), (8036, 2048)),
        ((27, 1152, 4304), (3, 1152, 4304)),
        ((1024,), (1024,)),
        ((), ()),
    ],
)
def test_chunks_are_slices_of_the_first_axes(shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    """The first axes are divided first, into equal parts, until a chunk has at most 64 MB."""
    assert chunk_shape(Leaf(shape, np.dtype(np.float32))) == chunk


def test_an_output_that_reads_back_differently_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that stores other numbers than it was given is detected before anybody uses them."""
    monkeypatch.setattr(Digest, "update", lambda self, part: None)
    with monkeypatch.context() as late:
        late.setattr(streamed_saving, "_verify", lambda *_: None)
        save_streamed(InMemory(ODD), tmp_path / "params", lora=None)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="these parameters are not what was saved"):
        streamed_saving._verify(tmp_path / "params", leaves_of(ODD))
    with pytest.raises(CheckpointError, match="what was written is not what was meant; nothing was kept\n  - e: "):
        streamed_saving._verify(tmp_path / "params", leaves_of(ODD | {"e": np.ones(2)}))


def test_a_full_disk_is_an_error_of_the_disk() -> None:
    """tensorstore's disk errors are shortened: its spec takes kilobytes."""

    def write() -> None:
        with streamed_saving._disk_errors(Path("out")):
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device [source locations='x'] [y]")

    with pytest.raises(OSError, match=r"^out: could not be written \(RESOURCE_EXHAUSTED: No space left on device\)$"):
        write()
