"""The files that fixtures write, read back by the formats' own libraries, and the damage done to them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fixtures import content, old_checkpoints, openpi_layout, openpi_orbax, paligemma_npz
from fixtures.corruptions import CORRUPTIONS, WRITERS, Corruption
from fixtures.params import Params, read_npz
from fixtures.specs import tiny
from suite.asserts import assert_same_bits
from suite.cases import digests

PLACES = [(damage, layout) for damage in CORRUPTIONS for layout in damage.layouts()]
each_damage = pytest.mark.parametrize(
    ("damage", "layout"), PLACES, ids=[f"{damage.name}-{layout}" for damage, layout in PLACES]
)


def flat(tree: Mapping[str, Any], prefix: str = "") -> Params:
    """Slash path -> leaf of a nested dict."""
    leaves: Params = {}
    for name, child in tree.items():
        below = isinstance(child, Mapping)
        leaves |= flat(child, f"{prefix}{name}/") if below else {f"{prefix}{name}": child}
    return leaves


def is_kernel(path: str) -> bool:
    """A suffix rule that holds for some paths."""
    return path.endswith("kernel")


# orbax advises against what this test wants: whatever was stored, as it was stored.
@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
@pytest.mark.parametrize("suffix", [True, False, is_kernel], ids=["all", "none", "some"])
@pytest.mark.parametrize("dtype", content.DTYPES)
def test_orbax_reads_back(tmp_path: Path, dtype: str, suffix: bool | Callable[[str], bool]) -> None:
    """orbax reads the bits that were written, below `params`, with `value` where it was asked for."""
    written = openpi_orbax.build(tiny("pi05"), tmp_path / "params", seed=2, dtype=dtype, value_suffix=suffix)
    with ocp.PyTreeCheckpointer() as checkpointer:
        stored = flat(checkpointer.restore(tmp_path / "params"))
    suffixed = suffix if callable(suffix) else lambda _: suffix
    expected = {f"params/{p}/value" if suffixed(p) else f"params/{p}": x for p, x in written.items()}
    assert_same_bits(stored, expected)
    assert_same_bits(written, content.params(tiny("pi05"), 2, dtype))


def test_orbax_checkpoint_looks_like_openpi(tmp_path: Path) -> None:
    """The folder has the files that openpi's own checkpoints have."""
    openpi_orbax.build(tiny(), tmp_path / "params")
    files = {file.name for file in (tmp_path / "params").iterdir()}
    assert files >= {"_CHECKPOINT_METADATA", "_METADATA", "_sharding", "manifest.ocdbt", "d"}


@pytest.mark.parametrize("dtype", content.DTYPES)
def test_numpy_reads_back(tmp_path: Path, dtype: str) -> None:
    """numpy reads the bits that were written, under the release's names; bfloat16 as two raw bytes a number."""
    spec = tiny(lora="both")
    written = paligemma_npz.build(spec, tmp_path / "pt_224.npz", seed=2, dtype=dtype)
    with np.load(tmp_path / "pt_224.npz", allow_pickle=False) as archive:
        stored = {name: archive[name] for name in archive.files}
    if dtype == "bfloat16":
        assert {array.dtype.str for array in stored.values()} == {"|V2"}
        stored = {name: array.view(ml_dtypes.bfloat16) for name, array in stored.items()}
    renamed = {path.replace("PaliGemma/", "params/"): array for path, array in written.items()}
    assert_same_bits(stored, renamed)


def test_release_is_paligemma_alone(tmp_path: Path) -> None:
    """A release has no action expert, no projections and no adapters, and the numbers of a whole model."""
    spec = tiny(lora="both")
    written = paligemma_npz.build(spec, tmp_path / "pt_224.npz")
    assert written.keys() == openpi_layout.paligemma_shapes(spec).keys()
    assert all(path.startswith("PaliGemma/") for path in written)
    assert not [path for path in written if "_1" in path.replace("_1/kernel", "") and "llm" in path]
    assert not [path for path in written if "lora" in path]
    assert_same_bits(written, {path: content.params(spec)[path] for path in written})


def test_corruptions_have_names_of_their_own() -> None:
    """A corruption has a name of its own and an accident that it imitates; each layout has critical and benign ones."""
    assert len({damage.name for damage in CORRUPTIONS}) == len(CORRUPTIONS)
    assert {(damage.severity, layout) for damage, layout in PLACES} == {
        (severity, layout) for severity in ("critical", "benign") for layout in WRITERS
    }
    assert all(damage.imitates.endswith(".") for damage in CORRUPTIONS)


@each_damage
def test_every_corruption_damages(damage: Corruption, layout: Any, tmp_path: Path) -> None:
    """A corruption changes the params or the files, and leaves the params that it was given as they are."""
    writer = WRITERS[layout]
    params = writer.contents(damage.spec(), 0, "float32")
    kept = {path: array.copy() for path, array in params.items()}
    damaged = damage.damage_params(params)
    assert_same_bits(params, kept)
    named = writer.named(damaged)
    stored = damage.damage_stored(named)
    path = tmp_path / "written"
    writer.write(stored, path)
    if path.is_dir():
        # What newer orbax versions write, with older ones too: its absence is one of the damages.
        (path / "commit_success.txt").touch()
    before = digests(tmp_path)
    damage.damage_files(path)
    changed = _bits(damaged) != _bits(kept) or _bits(stored) != _bits(named)
    assert changed or digests(tmp_path) != before


def _bits(params: Params) -> dict[str, tuple[Any, ...]]:
    return {path: (x.dtype, x.shape, x.tobytes()) for path, x in params.items()}


@pytest.mark.parametrize("layout", ["openpi_orbax", "paligemma_npz"])
def test_applying_returns_what_was_written(layout: Any, tmp_path: Path) -> None:
    """Applying damage writes a checkpoint of its layout and returns the params in it."""
    damage = next(damage for damage in CORRUPTIONS if damage.name == "weight_transposed")
    written = damage.apply(damage.spec(), tmp_path / "written", layout=layout, seed=4)
    expected = WRITERS[layout].contents(damage.spec(), 4, "float32")
    changed = {path for path in expected if written[path].shape != expected[path].shape}
    assert changed == {"PaliGemma/llm/layers/mlp/linear"}
    assert (tmp_path / "written").is_file() == (layout == "paligemma_npz")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    """A member that only unpickling can read is refused: reading a fixture runs no code from it."""
    np.savez(tmp_path / "x.npz", member=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_npz(tmp_path / "x.npz")


def test_old_checkpoints_are_as_they_were_written() -> None:
    """The frozen files have the digests that were noted when they were made, and there are no others."""
    noted = json.loads((old_checkpoints.FOLDER / "PROVENANCE.json").read_text())["files"]
    found = digests(old_checkpoints.FOLDER)
    del found["PROVENANCE.json"]
    assert found == {name: entry["sha256"] for name, entry in noted.items()}
    assert {name.partition("/")[0] for name in found} == set(old_checkpoints.CHECKPOINTS)
