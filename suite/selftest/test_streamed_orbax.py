"""The orbax folder that is written without orbax: orbax's own, file by file and array by array."""

import json
import math
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import pytest
import tensorstore

from fixtures import content, openpi_orbax, streamed, streamed_orbax
from fixtures.params import nested
from fixtures.specs import tiny
from fixtures.streamed_content import Content
from suite.asserts import assert_same_bits

SPEC = tiny("pi05")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A streamed checkpoint, and one with the same content that orbax wrote."""
    folder = tmp_path_factory.mktemp("orbax")
    openpi_orbax.build(SPEC, folder / "whole")
    return streamed.build(SPEC, "openpi_orbax", folder), folder / "whole"


def test_the_same_files(folders: tuple[Path, Path]) -> None:
    """The same files lie in the folder; those of numbers have names by chance."""
    found, expected = (
        {str(f.relative_to(folder)) for f in folder.rglob("*") if f.parent.name != "d"} for folder in folders
    )
    # Older versions of orbax make no mark of the commit.
    assert found == expected | {"commit_success.txt"}


@pytest.mark.parametrize("name", ["_METADATA", "array_metadatas/process_0", "_sharding"])
def test_the_same_metadata(folders: tuple[Path, Path], name: str) -> None:
    """The tree and the lists of arrays say what orbax's say; older versions say less."""
    found, expected = (json.loads((folder / name).read_text().replace("TFRT_CPU_", "cpu:")) for folder in folders)
    assert {key: found.get(key) for key in expected} == expected
    assert found.keys() - expected.keys() <= {"use_ocdbt"}


@pytest.mark.parametrize("below", [".", "ocdbt.process_0"])
def test_the_same_arrays(folders: tuple[Path, Path], below: str) -> None:
    """The stores have the same keys; the headers are equal, and so are the compressed numbers."""
    found, expected = (_values(folder / below) for folder in folders)
    assert found == expected


def _values(folder: Path) -> dict[bytes, bytes]:
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/"}).result()
    return {key: store.read(key).result().value for key in store.list().result()}


@pytest.mark.parametrize("largest", [2**20, 70_000, 1000, 300])
def test_chunks_are_chosen_as_orbax_does(tmp_path: Path, largest: int) -> None:
    """Large arrays are cut where orbax cuts them, and read back."""
    params = {"a/w": (6, 2, 16, 90), "b/w": (18, 35, 8), "c/bias": (331,), "d/w": (4, 4, 9)}
    arrays = {name: content.array(name, shape) for name, shape in params.items()}
    with ocp.PyTreeCheckpointer() as checkpointer:
        arguments = dict.fromkeys(arrays, ocp.SaveArgs(chunk_byte_size=largest))
        checkpointer.save(tmp_path / "orbax", nested(arrays), save_args=nested(arguments))
    with Content(params) as streams:
        streamed_orbax.write(streams, tmp_path / "streamed", SPEC, largest_chunk=largest)
    expected = {f"params.{name}.value": chunk for name, chunk in _chunks(tmp_path / "orbax").items()}
    assert _chunks(tmp_path / "streamed") == expected
    assert_same_bits(openpi_orbax.read_params(tmp_path / "streamed"), arrays)


def _chunks(folder: Path) -> dict[str, Any]:
    headers = {key.decode(): value for key, value in _values(folder).items() if key.endswith(b".zarray")}
    return {name.removesuffix("/.zarray"): json.loads(header)["chunks"] for name, header in headers.items()}


def test_chunks_of_real_size() -> None:
    """orbax 0.11 and 0.12 cut two arrays of pi0 in float32, and one in bfloat16, at 2 GiB."""
    gating, linear = (18, 2, 2048, 16_384), (18, 16_384, 2048)
    assert streamed_orbax.chunk_shape(gating, 4) == (18, 2, 2048, 4096)
    assert streamed_orbax.chunk_shape(gating, 2) == (18, 2, 2048, 8192)
    assert streamed_orbax.chunk_shape(linear, 4) == (18, 8192, 2048)
    assert streamed_orbax.chunk_shape(linear, 2) == linear
    assert streamed_orbax.chunk_shape((257_152, 2048), 4) == (257_152, 2048)
    assert math.prod(linear) * 2 < streamed_orbax.LARGEST_CHUNK
