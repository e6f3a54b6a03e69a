"""Parameters slab by slab: every layout gives the numbers of the whole arrays, in order."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.params import Params
from fixtures.specs import tiny
from fixtures.streamed import orbax as streamed_orbax
from fixtures.streamed.content import Content
from fixtures.writers import gemma_flax, hugging_face, openpi, openpi_layout, openpi_pytorch, paligemma_npz
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.detect import detect
from pi0_compat.layouts.open import open_parameters
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.orbax.read_stream import StoredParameters
from pi0_compat.model.config import Pi0Config
from pi0_compat.params import Leaf
from pi0_compat.storage import stream as slabs_module
from pi0_compat.storage.stream import (
    Source,
    boxes,
    cut,
    in_blocks,
    in_slabs,
    regrouped,
    rows_at_a_time,
    slabs_ahead,
    whole,
)
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.conftest import reads_damage

SPEC = tiny("pi0", num_kv_heads=2)
MODEL = Pi0Config.from_json({**SPEC})
LAYOUTS: dict[str, tuple[str, Callable[[Path], Params]]] = {
    "openpi": ("params", lambda path: openpi.build(SPEC, path)),
    "openpi_pytorch": ("torch", lambda path: openpi_pytorch.build(SPEC, path)),
    "hugging_face": ("hf", lambda path: hugging_face.build(SPEC, path)),
    "paligemma_npz": ("pt.npz", lambda path: paligemma_npz.build(SPEC, path)),
    "gemma_flax": ("gemma", lambda path: gemma_flax.build(SPEC, path)),
}


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a slab 20 kB: a few layers of many parameters, a single one of some."""
    monkeypatch.setattr(slabs_module, "BLOCK_BYTES", 20_000)


def read_whole(source: Source, paths: Any) -> Params:
    return {path: whole(slabs_ahead(source, path)) for path in paths}


@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_slabs_are_the_parameter(tmp_path: Path, layout: str) -> None:
    """The slabs of every parameter, one after another, are what was written."""
    name, build = LAYOUTS[layout]
    written = build(tmp_path / name)
    with open_parameters(detect(tmp_path / name), MODEL) as source:
        assert_same_bits(read_whole(source, written), written)
        longest = max(written, key=lambda path: written[path].nbytes)
        assert len(list(source.slabs(longest))) > 1


@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("largest", [4000, 30_000])
def test_chunks_beside_each_other_are_one_slab(tmp_path: Path, largest: int) -> None:
    """Arrays divided along any axes, as orbax divides large ones, are read in the order of their numbers."""
    shapes = openpi_layout.shapes(SPEC)
    with Content(shapes) as content:
        streamed_orbax.write(content, tmp_path / "params", SPEC, largest_chunk=largest)
    source = StoredParameters(read_metadata(tmp_path / "params"))
    assert_same_bits(read_whole(source, shapes), openpi.read_params(tmp_path / "params"))
    cut_behind = [path for path, array in source._arrays.items() if array.chunk[1:] != shapes[path][1:]]
    assert "PaliGemma/llm/layers/mlp/gating_einsum" in cut_behind


@reads_damage
def test_a_truncated_chunk_is_damage(tmp_path: Path) -> None:
    """A file that ends early is refused by the checkpoint's name, although the slabs before it were read."""
    openpi.build(SPEC, tmp_path / "params")
    for file in (tmp_path / "params" / "ocdbt.process_0" / "d").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    source = StoredParameters(read_metadata(tmp_path / "params"))
    with pytest.raises(CheckpointError, match=r"params: the checkpoint is damaged or incomplete \(PaliGemma/"):
        read_whole(source, source.leaves)


def test_rows_cover_the_array() -> None:
    """Rows follow each other from the first to the last, and each part is as small as possible."""
    parts = list(rows_at_a_time(Leaf((10, 1 << 20), np.dtype(np.float64))))
    assert [(part.start, part.stop) for part in parts] == [(0, 8), (8, 10)]
    parts = list(rows_at_a_time(Leaf((2, 1 << 30), np.dtype(np.float64))))
    assert [(part.start, part.stop) for part in parts] == [(0, 1), (1, 2)]
    assert not list(rows_at_a_time(Leaf((0, 3), np.dtype(np.float64))))


@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_regrouped_rows_are_the_same(rows: int) -> None:
    """Parts of any lengths become parts of one length, in order."""
    array = np.arange(22).reshape(11, 2)
    parts = list(regrouped([array[:2], array[2:9], array[9:]], rows))
    assert [len(part) for part in parts[:-1]] == [rows] * (len(parts) - 1)
    np.testing.assert_array_equal(np.concatenate(parts), array)


def test_a_scalar_is_its_own_slab() -> None:
    """An array without a first axis is one slab."""
    [slab] = cut(np.float32(3.0) * np.ones(()))
    assert slab.shape == ()


@pytest.mark.usefixtures("small_slabs")
def test_reading_ahead_raises_errors_in_order() -> None:
    """An error is raised after the slabs that were read before it."""

    class Failing(Source):
        path, leaves = Path("failing"), {"a": Leaf((2, 1 << 20), np.dtype(np.float32))}

        def slabs(self, path: str) -> Iterator[np.ndarray]:
            yield np.zeros(1)
            raise OSError("gone")

    ahead = slabs_ahead(Failing(), "a")
    assert len(next(ahead)) == 1
    with pytest.raises(OSError, match="gone"):
        next(ahead)


@pytest.mark.parametrize("cached", [1 << 18, 1000, 70])
@pytest.mark.parametrize("largest", [4000, 30_000, 1 << 31])
def test_blocks_are_the_parameter_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: int, largest: int
) -> None:
    """Blocks have the values in C order, in the lengths of the boxes, whatever the chunks are; slabs come of them."""
    monkeypatch.setattr(slabs_module, "CACHED_VALUES", cached)
    shapes = openpi_layout.shapes(SPEC)
    with Content(shapes) as content:
        streamed_orbax.write(content, tmp_path / "params", SPEC, largest_chunk=largest)
    source, written = StoredParameters(read_metadata(tmp_path / "params")), openpi.read_params(tmp_path / "params")
    for path, leaf in source.leaves.items():
        blocks = [block.copy() for block in source.blocks(path)]
        assert_same_bits({path: np.concatenate(blocks).reshape(leaf.shape)}, {path: written[path]})
        assert_same_bits({path: whole(in_slabs(leaf, source.blocks(path)))}, {path: written[path]})
        for lengths in (in_blocks(leaf.shape, source.slabs(path)), _boxed(written[path])):
            assert [block.size for block in blocks] == [block.size for block in lengths]


def _boxed(array: np.ndarray) -> Iterator[np.ndarray]:
    return (array[lead][rows] if array.shape else array for lead, rows in boxes(array.shape))
