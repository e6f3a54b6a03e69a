"""Checkpoints written slab by slab: orbax, openpi's reader and the loaders restore the right parameters."""

import json
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fixtures import content
from fixtures.params import Params
from fixtures.specs import tiny
from fixtures.streamed import orbax as streamed_orbax
from fixtures.streamed.content import Content
from fixtures.writers import openpi_layout
from fixtures.writers.openpi import read_params
from pi0_compat import restore_params, save_params
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax import write_arrays
from pi0_compat.layouts.orbax import write_stream as streamed_saving
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.orbax.read_stream import StoredParameters
from pi0_compat.layouts.orbax.write_arrays import chunk_shape
from pi0_compat.layouts.orbax.write_stream import save_streamed
from pi0_compat.model.config import Pi0Config
from pi0_compat.params import Leaf
from pi0_compat.storage.digests import digest
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
    save_streamed(InMemory(PARAMS), tmp_path / "streamed", lora=MODEL.lora, family=MODEL.family)
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
    monkeypatch.setattr(write_arrays, "_LARGEST_CHUNK", 1000)
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
        ((257_153, 2048), (8037, 2048)),
        ((2, 3, 100_003, 2048), (1, 1, 7693, 2048)),
        ((1024,), (1024,)),
        ((), ()),
    ],
)
def test_chunks_are_slices_of_the_first_axes(shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    """The first axes are divided first, into parts that are equal if they can be, until a chunk has at most 64 MB."""
    assert chunk_shape(Leaf(shape, np.dtype(np.float32))) == chunk


@pytest.mark.parametrize("inline", [True, False], ids=["in the tree", "in a file"])
def test_an_output_that_reads_back_differently_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: bool
) -> None:
    """A disk that stores other bytes than it was given is detected before anybody uses them."""
    verified: list[Any] = []
    params = {"a": np.ones(3, np.float32)} if inline else PARAMS
    with monkeypatch.context() as late:
        late.setattr(streamed_saving, "_verify", lambda *arguments: verified.extend(arguments))
        save_streamed(InMemory(params), tmp_path / "params", lora=None)
    folder, leaves, written, progress = verified
    streamed_saving._verify(folder, leaves, written, progress)
    with pytest.raises(CheckpointError, match="what was written is not what was meant; nothing was kept\n  - e: "):
        streamed_saving._verify(folder, {**leaves, "e": Leaf((2,), np.dtype(np.float32))}, written, progress)
    if inline:
        key = "params.a.value/0"
        written["a"].values[key] = written["a"].values[key]._replace(crc=1)
    else:
        largest = max((tmp_path / "params" / "ocdbt.process_0" / "d").iterdir(), key=lambda file: file.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
    with pytest.raises(CheckpointError, match="these parameters are not what was saved; nothing was kept\n  ~ "):
        streamed_saving._verify(folder, leaves, written, progress)


def test_an_array_that_passes_unchanged_keeps_its_chunks(tmp_path: Path) -> None:
    """Encoded chunks are copied as they are, in their grid, and what is read of them is digested."""
    with Content(openpi_layout.shapes(SPEC)) as content:
        streamed_orbax.write(content, tmp_path / "params", SPEC, largest_chunk=4000)
    first = StoredParameters(read_metadata(tmp_path / "params"))
    save_streamed(first, tmp_path / "copy", lora=None)
    copy = StoredParameters(read_metadata(tmp_path / "copy"))
    assert_same_bits(read_params(tmp_path / "copy"), read_params(tmp_path / "params"))
    copied = [path for path, array in first._arrays.items() if array.is_known()]
    assert "PaliGemma/llm/layers/mlp/gating_einsum" in copied
    for path in copied:
        one, other = first._arrays[path], copy._arrays[path]
        assert one.files
        assert other.files
        assert one.chunk == other.chunk
        assert [_bytes(one.files.place(chunk)) for chunk in one.chunks()] == [
            _bytes(other.files.place(chunk)) for chunk in other.chunks()
        ]
    assert copy.stored.digests == {path: digest(array) for path, array in read_params(tmp_path / "copy").items()}


def test_damage_is_not_copied(tmp_path: Path) -> None:
    """A chunk whose bytes do not decode is refused, although its bytes could be copied."""
    save_params(PARAMS, tmp_path / "params")
    store = max((tmp_path / "params" / "ocdbt.process_0" / "d").iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(store.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    store.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        save_streamed(StoredParameters(read_metadata(tmp_path / "params")), tmp_path / "copy", lora=None)


def _bytes(place: tuple[Path, int, int]) -> bytes:
    path, offset, length = place
    return path.read_bytes()[offset : offset + length]


@pytest.mark.parametrize("shape", [(10_007, 3), (2, 5003, 7), (211,)])
def test_any_shape_is_written_without_zstandard_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    """Axes that no divisor cuts evenly are read back by orbax, whoever encodes them."""
    monkeypatch.setattr(write_arrays, "_LARGEST_CHUNK", 4000)
    params = {"a": np.random.default_rng(0).standard_normal(shape).astype(ml_dtypes.bfloat16)}
    for name in ("zstandard", "tensorstore"):
        save_streamed(InMemory(params), tmp_path / name, lora=None)
        assert_same_bits(read_params(tmp_path / name), params)
        assert_same_bits(restore_params(tmp_path / name, restore_type=np.ndarray), params)
        monkeypatch.setattr(write_arrays, "zstandard", None)


def test_a_full_disk_is_an_error_of_the_disk() -> None:
    """tensorstore's disk errors are shortened: its spec takes kilobytes."""

    def write() -> None:
        with streamed_saving._disk_errors(Path("out")):
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device [source locations='x'] [y]")

    with pytest.raises(OSError, match=r"^out: could not be written \(RESOURCE_EXHAUSTED: No space left on device\)$"):
        write()
