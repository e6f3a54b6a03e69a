"""Streamed checkpoints: the bytes of the tiny factories, made without holding a model, and a manifest of digests."""

import hashlib
import shutil
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fixtures import (
    content,
    gemma_flax,
    hugging_face,
    openpi_layout,
    openpi_orbax,
    openpi_pytorch,
    paligemma_npz,
    streamed,
    streamed_content,
    streamed_orbax,
)
from fixtures.specs import ModelSpec, tiny, without_lora
from suite.asserts import assert_same_bits
from suite.cases import digests

SPEC = tiny("pi05", lora="both", num_kv_heads=2)
each_layout = pytest.mark.parametrize("layout", streamed.LAYOUTS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@pytest.fixture(autouse=True)
def short_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws and blocks that end within the arrays of a tiny model, and not at their rows."""
    monkeypatch.setattr(streamed_content, "NUMBERS_A_DRAW", 997)
    monkeypatch.setattr(streamed_content, "NUMBERS_A_BLOCK", 2503)


@each_dtype
@pytest.mark.parametrize("spec", [SPEC, tiny(num_kv_heads=6)], ids=["pi05", "pi0"])
def test_orbax_holds_the_same(tmp_path: Path, spec: ModelSpec, dtype: str) -> None:
    """orbax reads the params that the tiny factory writes."""
    path = streamed.build(spec, "openpi_orbax", tmp_path, dtype=dtype, seed=3)
    assert_same_bits(openpi_orbax.read_params(path), content.params(spec, 3, dtype))
    assert all(name.endswith("/value") for name in openpi_orbax.read(path))


@each_dtype
def test_gemma_holds_the_same(tmp_path: Path, dtype: str) -> None:
    """orbax reads the tree that the tiny factory writes, in the form that Google released, layer by layer."""
    path = streamed.build(SPEC, "gemma_flax", tmp_path, dtype=dtype, seed=3)
    gemma_flax.build(SPEC, tmp_path / "whole", seed=3, dtype=dtype)
    found, expected = (_modules(folder) for folder in (path, tmp_path / "whole"))
    assert found.keys() == expected.keys()
    assert len(found) > 3 * SPEC["paligemma"]["depth"]
    for module in expected:
        assert_same_bits(found[module], expected[module])


def _modules(folder: Path) -> dict[str, Any]:
    with ocp.PyTreeCheckpointer() as checkpointer, warnings.catch_warnings():
        # Of a sharding that is stored beside the arrays.
        warnings.simplefilter("ignore", UserWarning)
        tree: dict[str, Any] = checkpointer.restore(folder)
    return {module: {name: np.asarray(array) for name, array in arrays.items()} for module, arrays in tree.items()}


@each_dtype
def test_npz_has_the_same_members(tmp_path: Path, dtype: str) -> None:
    """Every member of the npz file has the bytes that numpy writes, stored, in the same order."""
    path = streamed.build(SPEC, "paligemma_npz", tmp_path, dtype=dtype, seed=3)
    paligemma_npz.build(SPEC, tmp_path / "whole.npz", seed=3, dtype=dtype)
    with zipfile.ZipFile(path) as found, zipfile.ZipFile(tmp_path / "whole.npz") as expected:
        assert [(x.filename, x.CRC, x.compress_type) for x in found.infolist()] == [
            (x.filename, x.CRC, x.compress_type) for x in expected.infolist()
        ]
        assert found.testzip() is None


@each_dtype
@pytest.mark.parametrize("layout", ["hugging_face", "openpi_pytorch"])
def test_safetensors_are_the_same_files(tmp_path: Path, layout: Any, dtype: str) -> None:
    """The folder has the files of the tiny factory, byte for byte."""
    factory = {"hugging_face": hugging_face, "openpi_pytorch": openpi_pytorch}[layout]
    path = streamed.build(SPEC, layout, tmp_path, dtype=dtype, seed=3)
    factory.build(SPEC, tmp_path / "whole", seed=3, dtype=dtype)
    assert digests(path) == digests(tmp_path / "whole")


@each_layout
@each_dtype
def test_manifest_has_every_digest(tmp_path: Path, layout: Any, dtype: str) -> None:
    """The manifest has the digest of every parameter in both dtypes, cast from what is stored, and the sizes."""
    path = streamed.build(SPEC, layout, tmp_path, dtype=dtype, seed=3)
    held = _held(layout, dtype)
    manifest = streamed.read_manifest(path)
    assert manifest["leaves"] == {
        p: {"shape": list(x.shape), "sha256": {"float32": _sha256(x, "f4"), "bfloat16": _sha256(x, ml_dtypes.bfloat16)}}
        for p, x in held.items()
    }
    assert manifest["params"] == sum(x.size for x in held.values())
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    assert manifest["bytes"] == sum(file.stat().st_size for file in files)
    noted = {name: manifest[name] for name in ("spec", "layout", "dtype", "seed")}
    assert noted == {"spec": SPEC, "layout": layout, "dtype": dtype, "seed": 3}


def _held(layout: str, dtype: str) -> dict[str, Any]:
    """What a layout holds of the model: a release is PaliGemma or Gemma alone, PyTorch's has no adapters."""
    params = content.params(without_lora(SPEC) if layout == "openpi_pytorch" else SPEC, 3, dtype)
    released = {
        "paligemma_npz": openpi_layout.paligemma_shapes,
        "hugging_face": openpi_layout.paligemma_shapes,
        "gemma_flax": gemma_flax.shapes,
    }
    return {path: params[path] for path in (released[layout](SPEC) if layout in released else params)}


def _sha256(array: Any, dtype: Any) -> str:
    return hashlib.sha256(array.astype(dtype).tobytes()).hexdigest()


def test_what_is_there_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole checkpoint is returned as it is; another seed, dtype or spec is another checkpoint."""
    path = streamed.build(tiny(), "paligemma_npz", tmp_path)
    others = [
        streamed.build(tiny(), "paligemma_npz", tmp_path, seed=1),
        streamed.build(tiny(), "paligemma_npz", tmp_path, dtype="bfloat16"),
        streamed.build(tiny(depth=4), "paligemma_npz", tmp_path),
    ]
    assert len({path, *others}) == 4
    assert path.suffix == ".npz"
    monkeypatch.setattr(content, "draws", None)
    assert streamed.build(tiny(), "paligemma_npz", tmp_path) == path
    assert {file.name for file in tmp_path.iterdir()} == {
        name for p in (path, *others) for name in (p.name, f"{p.name}.manifest.json")
    }


@pytest.mark.parametrize("lost", ["manifest", "tail", "checkpoint"])
@pytest.mark.parametrize("layout", ["openpi_orbax", "paligemma_npz"])
def test_what_is_not_whole_is_written_again(tmp_path: Path, layout: Any, lost: str) -> None:
    """A checkpoint that is cut or gone, or whose manifest is gone, is written anew."""
    path = streamed.build(tiny(), layout, tmp_path)
    noted = streamed.read_manifest(path)["leaves"]
    _lose(path, lost)
    assert streamed.build(tiny(), layout, tmp_path) == path
    manifest = streamed.read_manifest(path)
    assert manifest["leaves"] == noted
    assert manifest["bytes"] == sum(
        f.stat().st_size for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file()
    )


def _lose(path: Path, what: str) -> None:
    if what == "manifest":
        path.with_name(f"{path.name}.manifest.json").unlink()
    elif what == "checkpoint":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        largest = max(files, key=lambda file: file.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-1])


def test_a_full_disk_is_told_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little space is an error that says where, how much is needed, how much is there, and the way out."""
    usage = SimpleNamespace(free=1234)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"1,234 are free; choose another folder or make room") as raised:
        streamed.build(tiny(), "openpi_orbax", tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@each_layout
def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Any) -> None:
    """When a build fails halfway, what it wrote is removed and its error is raised."""

    def progress(done: int, everything: int) -> None:
        if done > everything / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        streamed.build(tiny(), layout, tmp_path, progress=progress)
    assert list(tmp_path.iterdir()) == []


@each_layout
def test_progress_ends_at_the_end(tmp_path: Path, layout: Any) -> None:
    """Progress grows by small steps from the first bytes to all of them."""
    calls: list[tuple[int, int]] = []
    streamed.build(tiny(), layout, tmp_path, progress=lambda done, everything: calls.append((done, everything)))
    done = [bytes_done for bytes_done, _ in calls]
    assert done == sorted(set(done))
    assert {everything for _, everything in calls} == {done[-1]}
    assert max(np.diff(done)) <= 997 * 4


@pytest.mark.parametrize(
    ("layout", "share"),
    [
        ("openpi_orbax", 0.45),
        ("paligemma_npz", 0.05),
        ("hugging_face", 0.15),
        ("gemma_flax", 0.25),
        ("openpi_pytorch", 0.1),
    ],
)
def test_a_model_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Any, share: float) -> None:
    """Writing takes a share of the memory that the parameters would take: a layer or two, or orbax's largest array."""
    monkeypatch.setattr(streamed_content, "NUMBERS_A_DRAW", 1 << 16)
    monkeypatch.setattr(streamed_content, "NUMBERS_A_BLOCK", 1 << 16)
    monkeypatch.setattr(streamed_orbax, "HELD_TOGETHER", 0)
    spec = tiny(depth=24)
    spec["vocab_size"] = 16_384
    for expert in ("paligemma", "action_expert"):
        spec[expert]["mlp_dim"] = 2048
    tracemalloc.start()
    path = streamed.build(spec, layout, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = peak / (streamed.read_manifest(path)["params"] * 4)
    assert held < share, f"{held:.0%} of the parameters were held"
