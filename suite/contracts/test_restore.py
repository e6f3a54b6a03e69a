"""Reading a checkpoint: every bit as stored, under openpi's names, without changing anything on disk."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import old_checkpoints
from fixtures.params import Array, Params, flat
from fixtures.writers import openpi
from suite.contracts.checkpoints import Checkpoint
from suite.session.registry import contract
from suite.subjects.process.elsewhere import elsewhere
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused
from suite.writing.cases import digests
from suite.writing.strategies import nested_names


def filled_with(leaves: Iterator[Array], tree: Any) -> Any:
    """Replace every None in the tree with the next array."""
    if isinstance(tree, dict):
        return {name: filled_with(leaves, child) for name, child in tree.items()}
    return next(leaves)


def below_value(tree: Any) -> Any:
    """Add nnx's `value` suffix to every leaf of the tree."""
    if isinstance(tree, dict):
        return {name: below_value(child) for name, child in tree.items()}
    return {"value": tree}


@contract(source="openpi model.py:281", needs=("restore",))
@pytest.mark.parametrize("value_suffix", [True, False], ids=["with_value_suffix", "without_value_suffix"])
def test_keeps_every_bit(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path, value_suffix: bool) -> None:
    """Restoring gives the stored parameters bit for bit, whether or not their names end in nnx's `value`."""
    openpi.write(lora_checkpoint.params, tmp_path / "params", value_suffix=value_suffix)
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), lora_checkpoint.params)


@contract(source="IEEE 754; docs/bugs.md#c6", needs=("restore",))
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=["float32", "float16", "bfloat16"])
def test_keeps_odd_floats(subject: Subject, tmp_path: Path, dtype: type) -> None:
    """NaN payloads, signed zeros, subnormals and infinities survive restoring bit for bit."""
    bits = np.dtype(f"u{np.dtype(dtype).itemsize}")
    # Every bit pattern of 16-bit floats, and equally many of float32, spread over all exponents.
    patterns = np.arange(2**16, dtype=np.uint32) * (1 if bits.itemsize == 2 else 2**16 + 1)
    params: Params = {"head/kernel": patterns.astype(bits).view(dtype)}
    openpi.write(params, tmp_path / "params")
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), params)


@contract(source="openpi model.py:328; docs/bugs.md#c17", needs=("restore",))
def test_keeps_a_parameter_called_value(subject: Subject, tmp_path: Path) -> None:
    """A parameter that is really called `value` keeps its name: it is not a suffix."""
    params = {name: np.full(3, n, np.float32) for n, name in enumerate(("critic/bias", "critic/value", "head/w"))}
    openpi.write(params, tmp_path / "bare", value_suffix=False)
    openpi.write(params, tmp_path / "suffixed", value_suffix=True)
    assert_same_bits(subject.restore(str(tmp_path / "bare"), None), params)
    assert_same_bits(subject.restore(str(tmp_path / "suffixed"), None), params)


@contract(source="openpi model.py:328; docs/bugs.md#c17", needs=("restore",))
def test_strips_the_suffix_in_mixed_trees(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """If some leaves have nnx's `value` suffix and others do not, all are restored under openpi's names."""
    openpi.write(
        base_checkpoint.params,
        tmp_path / "params",
        value_suffix=lambda path: path.endswith("kernel"),
    )
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), base_checkpoint.params)


@contract(source="IEEE 754 round to nearest even", needs=("restore",))
def test_casts_as_asked(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """With a dtype, every parameter is cast to it by rounding to nearest even."""
    expected = {path: array.astype(ml_dtypes.bfloat16) for path, array in base_checkpoint.params.items()}
    assert_same_bits(subject.restore(base_checkpoint.path, "bfloat16"), expected)


@contract(source="docs/bugs.md#c8, #f3; google/flax #4858, #4317; RFC 6901", needs=("restore",))
@settings(max_examples=settings().max_examples // 3)
@given(tree=nested_names(), suffixed=st.booleans())
def test_keeps_any_names(subject: Subject, tree: dict[str, Any], suffixed: bool) -> None:
    """Names with any characters, even digits, dots and slashes, survive in any nesting, each leaf at its own path."""
    leaves = [np.full(2, n, np.float32) for n in range(len(flat(tree)))]
    filled = filled_with(iter(leaves), tree)
    with tempfile.TemporaryDirectory() as folder:
        stored = {name: below_value(child) for name, child in filled.items()} if suffixed else filled
        openpi.write_tree(stored, Path(folder) / "params")
        restored = subject.restore(str(Path(folder) / "params"), None)
    assert_same_bits(restored, flat(filled))


@contract(source="docs/bugs.md#c8, #f3", needs=("restore",))
def test_keeps_numbers_as_names(subject: Subject, tmp_path: Path) -> None:
    """Integer keys are restored as their digits, in their original place."""
    leaves = [np.full(2, n, np.float32) for n in range(3)]
    openpi.write_tree({"blocks": {0: leaves[0], 10: leaves[1]}, "head": {"2": leaves[2]}}, tmp_path / "params")
    expected = dict(zip(("blocks/0", "blocks/10", "head/2"), leaves, strict=True))
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), expected)


@contract(source="docs/bugs.md#f1; orbax 0.4.8 and 0.5.20", needs=("restore",))
@pytest.mark.parametrize("name", old_checkpoints.CHECKPOINTS)
def test_reads_what_old_orbax_wrote(subject: Subject, name: str) -> None:
    """Checkpoints by old orbax versions, with one file for all arrays or a folder for each, restore bit for bit."""
    assert_same_bits(subject.restore(str(old_checkpoints.FOLDER / name), None), old_checkpoints.params())


@contract(source="openpi model.py:281", needs=("restore",))
def test_leaves_the_files_alone(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """Restoring, with a cast and without, changes no file of the checkpoint."""
    before = digests(base_checkpoint.path)
    for dtype in (None, "bfloat16"):
        subject.restore(base_checkpoint.path, dtype)
    assert digests(base_checkpoint.path) == before


@contract(source="docs/bugs.md#c19; openpi weight_loaders.py:100", needs=("restore",))
def test_order_is_the_same_in_every_process(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """Two processes restore the parameters of a checkpoint in the same order."""
    with elsewhere(subject) as process:
        assert list(process.restore(base_checkpoint.path, None)) == list(subject.restore(base_checkpoint.path, None))


@contract(source="numpy.ndarray.flags; docs/bugs.md#p9", needs=("restore",))
def test_results_are_their_own(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """Two restores share no memory: changing one result does not change the other."""
    first, second = (subject.restore(base_checkpoint.path, None) for _ in range(2))
    assert not [path for path in first if np.shares_memory(first[path], second[path])]


@contract(source="docs/bugs.md#c16; pathlib", needs=("restore",))
@pytest.mark.parametrize("spelling", ["{path}/", "{path}/../{name}", "{link}"], ids=["slash", "dots", "link"])
def test_other_spellings_of_a_path_work(
    subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, spelling: str
) -> None:
    """A path may end in a slash, contain `..`, or lead through a symbolic link."""
    path, link = Path(base_checkpoint.path), tmp_path / "link"
    link.symlink_to(path, target_is_directory=True)
    spelled = spelling.format(path=path, name=path.name, link=link)
    assert_same_bits(subject.restore(spelled, None), base_checkpoint.params)


@contract(source="a folder of datasets is often a link", needs=("restore",))
def test_follows_links_within(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A symbolic link to a whole checkpoint, and links between its own files, are followed."""
    shutil.copytree(base_checkpoint.path, tmp_path / "stored")
    (tmp_path / "stored" / "manifest.ocdbt").rename(tmp_path / "stored" / "manifest")
    (tmp_path / "stored" / "manifest.ocdbt").symlink_to("manifest")
    (tmp_path / "params").symlink_to("stored")
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), base_checkpoint.params)


@contract(source="openpi lora.py: a fresh lora_b may be all zeros", needs=("restore",))
def test_keeps_zeros_that_compress_well(subject: Subject, tmp_path: Path) -> None:
    """An array of zeros that takes ten thousand times less space on disk than in memory is read."""
    params = {"head/kernel": np.zeros((2048, 4096), np.float32)}
    openpi.write(params, tmp_path / "params")
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), params)


@contract(source="orbax reads _METADATA with json", needs=("restore",))
@pytest.mark.parametrize("text", ["[]", "3", '{"tree_metadata": []}'], ids=["list", "number", "list_of_arrays"])
def test_metadata_of_another_kind_is_refused_by_name(
    subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, text: str
) -> None:
    """Metadata that is JSON, but not orbax's, is refused by the checkpoint's name."""
    shutil.copytree(base_checkpoint.path, tmp_path / "params")
    (tmp_path / "params" / "_METADATA").write_text(text)
    with refused(str(tmp_path / "params")):
        subject.restore(str(tmp_path / "params"), None)


@contract(source="docs/bugs.md#c16; openpi 61c2755", needs=("restore", "in_process"))
@pytest.mark.parametrize("spelling", [Path, str], ids=["Path", "str"])
def test_paths_are_text_or_objects(
    subject: Subject,
    base_checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spelling: Callable[[str], Any],
) -> None:
    """Paths that are absolute, relative to the working directory or relative to `~`, as str or Path, name the same
    checkpoint."""
    path = Path(base_checkpoint.path)
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("HOME", str(path.parent))
    for spelled in (str(path), path.name, f"./{path.name}", f"~/{path.name}"):
        assert_same_bits(subject.restore(spelling(spelled), None), base_checkpoint.params)


@contract(source="docs/bugs.md#c16", needs=("restore",))
def test_step_folder_is_refused_by_name(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """If given a step's folder instead of its `params`, restoring is refused with the folder to pass."""
    with refused(base_checkpoint.path):
        subject.restore(str(Path(base_checkpoint.path).parent), None)


@contract(source="docs/bugs.md#c16", needs=("restore",))
def test_run_folder_is_refused_by_the_newest_step(
    subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """If given a run's folder, restoring is refused with the parameters of its newest step: 1000 is newer than 999."""
    for step in ("2", "999", "1000", "1001.orbax-checkpoint-tmp-0"):
        shutil.copytree(base_checkpoint.path, tmp_path / step / "params")
    with refused(str(tmp_path / "1000" / "params")):
        subject.restore(str(tmp_path), None)


@contract(source="docs/bugs.md#c16; openpi checkpoints.py:70", needs=("restore",))
@pytest.mark.parametrize("name", ["assets", "train_state"])
def test_folders_beside_are_refused_by_name(
    subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, name: str
) -> None:
    """If given a folder next to `params` in a step, restoring is refused with the folder to pass."""
    shutil.copytree(base_checkpoint.path, tmp_path / "params")
    (tmp_path / name).mkdir()
    (tmp_path / name / "norm_stats.json").write_text("{}")
    with refused(str(tmp_path / name), str(tmp_path / "params")):
        subject.restore(str(tmp_path / name), None)


@contract(source="docs/bugs.md#h5; openpi policy_config.py:48", needs=("restore",))
def test_two_models_in_a_step_are_refused(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A step with both `params` and a PyTorch file is refused by both names; given by name, `params` restores."""
    shutil.copytree(base_checkpoint.path, tmp_path / "params")
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with refused("model.safetensors", str(tmp_path / "params")):
        subject.restore(str(tmp_path), None)
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), base_checkpoint.params)


@contract(source="docs/bugs.md#e4; orbax atomicity", needs=("restore",))
def test_unfinished_save_is_refused(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A folder with orbax's temporary name is an unfinished save and is refused by name, whatever it contains."""
    path = tmp_path / "params.orbax-checkpoint-tmp-0"
    shutil.copytree(base_checkpoint.path, path)
    with refused(str(path)):
        subject.restore(str(path), None)


@contract(source="docs/bugs.md#c16, #h5", needs=("restore",))
@pytest.mark.parametrize("name", ["model.safetensors", "pt_224.npz", "torch/"])
def test_other_formats_are_called_by_their_name(subject: Subject, tmp_path: Path, name: str) -> None:
    """If given a PyTorch checkpoint or an npz, the error says what it is, and that another loader reads it."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    np.savez(tmp_path / "pt_224.npz", member=np.ones(2, np.float32))
    with refused(str(tmp_path / name).rstrip("/"), "npz" if name.endswith("npz") else "PyTorch", "oader"):
        subject.restore(str(tmp_path / name), None)


@contract(source="docs/bugs.md#c16", needs=("restore",))
@pytest.mark.parametrize("name", ["nowhere", "empty", "a_file"])
def test_wrong_path_is_refused_by_name(subject: Subject, tmp_path: Path, name: str) -> None:
    """A path without a checkpoint is refused by name, and nothing appears on disk."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "a_file").write_text("not a checkpoint")
    before = sorted(tmp_path.rglob("*"))
    with refused(str(tmp_path / name)):
        subject.restore(str(tmp_path / name), None)
    assert sorted(tmp_path.rglob("*")) == before


@contract(source="docs/bugs.md#c16", needs=("restore",))
def test_url_without_driver_is_refused_by_name(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL with an unknown scheme is refused by name, not treated as a local path."""
    monkeypatch.chdir(tmp_path)
    with refused("nosuchscheme://bucket/checkpoint/params"):
        subject.restore("nosuchscheme://bucket/checkpoint/params", None)
    assert not list(tmp_path.rglob("*"))
