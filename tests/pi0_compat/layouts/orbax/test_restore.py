"""Reading and writing openpi's checkpoint layout: names, placement, and errors of wrong files and paths."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.damage import silent_damage
from fixtures.damage.corruptions import CORRUPTIONS, Corruption
from fixtures.writers import openpi
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax import restore as checkpoints
from pi0_compat.layouts.orbax.completeness import what_is_missing
from pi0_compat.layouts.orbax.folder import METADATA_FILE
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.orbax.read import restore_leaves
from pi0_compat.layouts.orbax.restore import restore_params
from pi0_compat.layouts.orbax.save import save_params
from pi0_compat.params import flatten, leaves_of, unflatten
from pi0_compat.storage import placement as sharding_module
from pi0_compat.storage.stream import BLOCK_BYTES, windows
from suite.writing.asserts import assert_same_bits
from suite.writing.cases import digests
from tests.pi0_compat.conftest import reads_damage
from tests.pi0_compat.tiny_models import BASE, LORA, Params, lora_params

PARAMS: Params = {
    "PaliGemma/llm/w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "head/bias": np.arange(4, dtype=np.float16),
    "head/kernel": np.arange(5).astype(ml_dtypes.bfloat16),
}
both_ways = pytest.mark.parametrize("verify", [True, False], ids=["verified", "as_orbax_reads"])
ORBAX_DAMAGES = [d for d in CORRUPTIONS if d.name.startswith("orbax_") and d.severity == "critical"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of ``LORA`` that ``save_params`` wrote."""
    path = tmp_path_factory.mktemp("stored") / "params"
    save_params(lora_params(), path, config=LORA)
    return path


@pytest.mark.parametrize("suffix", [True, False])
def test_an_only_child_called_value_keeps_its_name(tmp_path: Path, suffix: bool) -> None:
    """Our checkpoints record the suffix, so a parameter that is really called ``value`` keeps its name."""
    save_params({"critic/value": np.ones(2)}, tmp_path / "params", value_suffix=suffix)
    assert list(read_metadata(tmp_path / "params").leaves) == ["critic/value"]


def test_the_suffix_can_be_passed(tmp_path: Path) -> None:
    """In a foreign checkpoint, ``value_suffix=False`` says that ``value`` is a name."""
    openpi.write({"critic/value": np.ones(2, np.float32)}, tmp_path / "p", value_suffix=False)
    assert list(restore_params(tmp_path / "p", value_suffix=False)) == ["critic/value"]
    assert list(restore_params(tmp_path / "p")) == ["critic"]


@pytest.mark.parametrize("form", [dict, unflatten])
@pytest.mark.parametrize("kind", [str, Path])
def test_round_trip(tmp_path: Path, form: Callable, kind: type) -> None:
    """Flat or nested parameters, saved to a str or a Path, are restored bit for bit in path order."""
    save_params(form(dict(reversed(PARAMS.items()))), kind(tmp_path / "params"))
    restored = restore_params(kind(tmp_path / "params"), restore_type=np.ndarray)
    assert list(restored) == sorted(PARAMS)
    assert_same_bits(restored, PARAMS)


@pytest.mark.parametrize(
    "array",
    [np.float32(3.5), np.ones((1, 1, 1), np.float32), np.asfortranarray(np.eye(3)[:2])],
    ids=["scalar", "ones", "fortran_order"],
)
def test_unusual_arrays_make_the_round_trip(tmp_path: Path, array: np.ndarray) -> None:
    """Scalars and arrays in Fortran order are restored unchanged."""
    save_params({"a": array, "b": np.ones(2)}, tmp_path / "params")
    restored = restore_params(tmp_path / "params", restore_type=np.ndarray)["a"]
    assert_same_bits({"a": restored}, {"a": array})


def test_keys_with_slashes_make_the_round_trip(tmp_path: Path) -> None:
    """A slash or a tilde inside a key is stored and restored as part of the key."""
    nested = {"a/b": {"c~1": np.ones(2, np.float32)}, "a": {"b": np.zeros(2, np.float32)}}
    save_params(nested, tmp_path / "params")
    assert_same_bits(restore_params(tmp_path / "params", restore_type=np.ndarray), flatten(nested))


def test_dots_in_keys_do_not_collide(tmp_path: Path) -> None:
    """A name may have a dot, but ``a.b`` and ``b`` below ``a`` would be one name in orbax and are refused."""
    params = {"a.b": np.ones(2, np.float32), "c/d": np.zeros(2, np.float32)}
    save_params(params, tmp_path / "params")
    assert_same_bits(restore_params(tmp_path / "params", restore_type=np.ndarray), params)
    with pytest.raises(ValueError, match=r"a/b and a\.b have the same name"):
        save_params(params | {"a/b": np.ones(2, np.float32)}, tmp_path / "other")


def test_a_slash_at_the_end_of_a_key_does_not_collide(tmp_path: Path) -> None:
    """orbax stores ``a`` and ``a/`` in one place; they are refused, unless nnx's suffix tells them apart."""
    params = {"a": np.ones(2, np.float32), "a~1": np.zeros(2, np.float32)}
    save_params(params, tmp_path / "suffixed")
    assert_same_bits(restore_params(tmp_path / "suffixed", restore_type=np.ndarray), params)
    with pytest.raises(ValueError, match="a~1 and a have the same name"):
        save_params(params, tmp_path / "plain", value_suffix=False)
    assert not (tmp_path / "plain").exists()


def test_a_key_that_ends_in_a_slash_is_found(tmp_path: Path) -> None:
    """orbax stores a key ``a/`` without a second slash; it is restored, and nothing of it is missing."""
    openpi.write_tree({"a/": np.full(2, 7, np.float32)}, tmp_path / "params")
    assert_same_bits(restore_params(tmp_path / "params", restore_type=np.ndarray), {"a~1": np.full(2, 7, np.float32)})
    assert what_is_missing(tmp_path / "params") == []


def test_a_parameter_that_was_overwritten_is_refused(tmp_path: Path) -> None:
    """A checkpoint in which orbax lost one of two parameters is not read as if it held both."""
    openpi.write_tree({"a": np.ones(2, np.float32), "a/": np.zeros(2, np.float32)}, tmp_path / "params")
    with pytest.raises(CheckpointError, match="one parameter overwrote another when it was saved: a~1 and a have"):
        restore_params(tmp_path / "params")


def test_metadata_has_shapes_and_dtypes(stored: Path) -> None:
    """Paths, shapes and dtypes are known before any array is read."""
    assert read_metadata(stored).leaves == leaves_of(lora_params())


def test_rank_and_alpha_are_recorded(tmp_path: Path) -> None:
    """A checkpoint records rank, alpha and rslora of its config, or that it has no LoRA; without a config, None."""
    save_params(lora_params(), tmp_path / "lora", config=LORA)
    save_params(PARAMS, tmp_path / "base", config=BASE)
    save_params(PARAMS, tmp_path / "unknown")
    recorded = [read_metadata(tmp_path / name).lora for name in ("lora", "base", "unknown")]
    assert recorded == [LORA.lora, {}, None]


@pytest.mark.parametrize("config", [LORA, BASE], ids=["lora", "base"])
def test_adapters_of_another_config_are_not_recorded(tmp_path: Path, config: Any) -> None:
    """Rank and alpha of a config that does not have the saved adapters are refused, and nothing is written."""
    params = lora_params() if config is BASE else {path: x for path, x in lora_params().items() if "lora" not in path}
    with pytest.raises(ValueError, match="not those of the config"):
        save_params(params, tmp_path / "params", config=config)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_openpi_records_no_alpha(tmp_path: Path) -> None:
    """openpi's checkpoints have no record, which differs from the record of a model without LoRA."""
    openpi.write(PARAMS, tmp_path / "params")
    assert read_metadata(tmp_path / "params").lora is None


@pytest.mark.parametrize("content", ["file", "folder"])
def test_saving_never_overwrites(tmp_path: Path, content: str) -> None:
    """Existing files and folders stay, even an empty folder."""
    path = tmp_path / "params"
    path.mkdir() if content == "folder" else path.write_text("mine")
    before = digests(tmp_path)
    with pytest.raises(FileExistsError, match=f"{path}: already exists; choose another folder"):
        save_params(PARAMS, path)
    assert digests(tmp_path) == before


def test_saving_no_parameters_is_refused(tmp_path: Path) -> None:
    """The refusal creates no folder."""
    with pytest.raises(ValueError, match="there are no parameters to save"):
        save_params({}, tmp_path / "params")
    assert not any(tmp_path.iterdir())


def test_saving_creates_the_parents(tmp_path: Path) -> None:
    """Missing parents of the folder are created."""
    save_params(PARAMS, tmp_path / "a" / "b" / "params")
    assert read_metadata(tmp_path / "a" / "b" / "params").leaves == leaves_of(PARAMS)


def test_relative_paths_start_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is resolved in the current folder, for saving and for restoring."""
    monkeypatch.chdir(tmp_path)
    save_params(PARAMS, "params")
    assert_same_bits(restore_params("params", restore_type=np.ndarray), PARAMS)


def test_arrays_are_jax_arrays_by_default(stored: Path) -> None:
    """Without a sharding, jax arrays are replicated over all devices."""
    restored = restore_params(stored)
    assert all(isinstance(array, jax.Array) for array in restored.values())
    assert all(array.sharding.is_fully_replicated for array in restored.values())


@both_ways
def test_arrays_go_where_the_sharding_says(stored: Path, verify: bool) -> None:
    """A sharding for all parameters is applied to every one of them."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    restored = restore_params(stored, sharding=sharding, verify=verify)
    assert {x.sharding for x in restored.values()} == {sharding}


@both_ways
def test_a_sharding_can_depend_on_the_path(stored: Path, verify: bool) -> None:
    """A function is called for the sharding of each path once, with the parameter's name."""
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("fsdp",))
    paths = []

    def sharding(path: str) -> jax.sharding.Sharding:
        paths.append(path)
        axis = "fsdp" if path.endswith("kernel") else None
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(axis))

    restored = restore_params(stored, sharding=sharding, verify=verify)
    assert sorted(paths) == sorted(lora_params())
    assert restored["action_in_proj/kernel"].sharding.spec == jax.sharding.PartitionSpec("fsdp")
    assert restored["action_in_proj/bias"].sharding.spec == jax.sharding.PartitionSpec(None)


@both_ways
def test_a_jax_array_takes_over_the_memory_that_was_read(
    stored: Path, monkeypatch: pytest.MonkeyPatch, verify: bool
) -> None:
    """On the CPU no parameter is copied to become a jax array."""
    handed_over = {}

    def put(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
        placed = sharding_module.put(array, sharding)
        handed_over[array.ctypes.data] = placed.unsafe_buffer_pointer()
        return placed

    monkeypatch.setattr(checkpoints, "put", put)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    restored = restore_params(stored, sharding=device, dtype=ml_dtypes.bfloat16, verify=verify)
    assert len(handed_over) == len(restored)
    assert list(handed_over.keys()) == list(handed_over.values())


@both_ways
@pytest.mark.parametrize("restore_type", [np.ndarray, jax.Array])
def test_parameters_are_cast_while_they_are_read(stored: Path, restore_type: type, verify: bool) -> None:
    """With a dtype every parameter is cast, on the host and on the device alike."""
    restored = restore_params(stored, restore_type=restore_type, dtype=ml_dtypes.bfloat16, verify=verify)
    expected = {path: array.astype(ml_dtypes.bfloat16) for path, array in lora_params().items()}
    assert_same_bits(restored, expected)


def test_only_requested_leaves_are_restored(stored: Path) -> None:
    """Requested leaves are restored, each in its own dtype."""
    dtypes = {"action_in_proj/bias": np.float16, "action_out_proj/bias": None}
    restored = restore_leaves(read_metadata(stored), dtypes)
    restored_dtypes = {path: array.dtype for path, array in restored.items()}
    assert restored_dtypes == {"action_in_proj/bias": np.float16, "action_out_proj/bias": np.float32}


def test_damaged_numbers_are_restored_without_verification(tmp_path: Path) -> None:
    """With ``verify=False`` a parameter has the numbers in the files, and the others are unharmed."""
    save_params(PARAMS, tmp_path / "params")
    silent_damage.silent_zeros(tmp_path / "params", "head/kernel")
    restored = restore_params(tmp_path / "params", restore_type=np.ndarray, verify=False)
    assert_same_bits(restored, PARAMS | {"head/kernel": np.array([0, 0, 2, 3, 4]).astype(ml_dtypes.bfloat16)})


@pytest.mark.filterwarnings("error")
@both_ways
def test_overflow_in_a_cast_does_not_warn(tmp_path: Path, verify: bool) -> None:
    """A value too large for the requested dtype becomes infinite silently: loaders refuse it by name."""
    save_params({"a": np.full(2, 1e30, np.float32)}, tmp_path / "params")
    restored = restore_params(tmp_path / "params", restore_type=np.ndarray, dtype=np.float16, verify=verify)
    assert np.isposinf(restored["a"]).all()


@given(st.dictionaries(st.text(max_size=2), st.integers(0, BLOCK_BYTES * 3), max_size=6))
def test_windows_are_small_or_hold_one_parameter(sizes: dict[str, int]) -> None:
    """Windows go through the parameters in order, and windows of several stay within the limit."""
    groups = list(windows(sizes))
    assert [path for group in groups for path in group] == list(sizes)
    assert all(len(group) == 1 or sum(sizes[path] for path in group) <= BLOCK_BYTES for group in groups)


@reads_damage
def test_other_leaves_are_not_read(tmp_path: Path) -> None:
    """A small parameter can be read although the data of a large one is gone."""
    large = np.random.default_rng(0).standard_normal((512, 512), np.float32)
    small = np.ones(2, np.float32)
    save_params({"large": large, "small": small}, tmp_path / "params")
    files = [file for file in (tmp_path / "params").rglob("*") if file.is_file()]
    max(files, key=lambda file: file.stat().st_size).write_bytes(b"")
    metadata = read_metadata(tmp_path / "params")
    assert_same_bits(restore_leaves(metadata, {"small": None}), {"small": small})
    with pytest.raises(CheckpointError):
        restore_leaves(metadata, {"large": None})


def test_float64_is_not_narrowed_silently(tmp_path: Path) -> None:
    """Without a dtype, float64 is restored as float64 or refused, never as float32."""
    save_params({"a": np.full(2, 1 + 2**-40)}, tmp_path / "params")
    assert restore_params(tmp_path / "params", restore_type=np.ndarray)["a"].dtype == np.float64
    try:
        restored = restore_params(tmp_path / "params")["a"]
    except (ValueError, UserWarning):
        return
    assert restored.dtype == np.float64


@reads_damage
@pytest.mark.parametrize("damage", ORBAX_DAMAGES, ids=[d.name for d in ORBAX_DAMAGES])
def test_damaged_files_are_checkpoint_errors(damage: Corruption, tmp_path: Path) -> None:
    """Missing or truncated files raise a ``CheckpointError`` that begins with the folder."""
    damage.apply(damage.spec(), tmp_path / "params")
    with pytest.raises(CheckpointError, match=f"^{tmp_path / 'params'}: "):
        restore_params(tmp_path / "params")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_unreadable_metadata_is_a_checkpoint_error(tmp_path: Path, text: str) -> None:
    """Whatever ``_METADATA`` contains in place of the tree, the error names the folder."""
    save_params(PARAMS, tmp_path / "params")
    (tmp_path / "params" / METADATA_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=f"^{tmp_path / 'params'}: "):
        read_metadata(tmp_path / "params")


def test_another_top_level_is_named(tmp_path: Path) -> None:
    """Another orbax checkpoint is refused with its top level."""
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", {"step": np.ones(1), "model": {"w": np.ones(1)}})
    with pytest.raises(CheckpointError, match=r"found the top level \['model', 'step'\]"):
        read_metadata(tmp_path / "state")


def test_a_list_at_the_top_is_named(tmp_path: Path) -> None:
    """A tree that begins with a list is refused by its kind, not by its arrays."""
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", [np.zeros(2), np.ones(2)])
    with pytest.raises(CheckpointError, match="found a list of 2 at the top level"):
        read_metadata(tmp_path / "state")


def advice(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        restore_params(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_a_missing_folder_is_no_checkpoint(tmp_path: Path) -> None:
    """The error says that the folder does not exist."""
    assert "no such folder" in advice(tmp_path / "nowhere")


def test_the_folder_of_a_step_is_recognized(stored: Path) -> None:
    """The error says to pass the step's ``params``."""
    assert advice(stored.parent).endswith(f"this is the folder of a step: pass {stored}")


def test_the_folder_of_a_run_is_recognized(stored: Path, tmp_path: Path) -> None:
    """The error says to pass the latest step's ``params``: 10 comes after 9."""
    for step in ("9", "10"):
        shutil.copytree(stored, tmp_path / step / "params")
    assert advice(tmp_path).endswith(f"folder of a run: pass {tmp_path / '10' / 'params'}")


def test_a_pytorch_folder_is_recognized(tmp_path: Path) -> None:
    """A folder of safetensors is called a PyTorch checkpoint."""
    (tmp_path / "model.safetensors").touch()
    assert "PyTorch" in advice(tmp_path)


def test_an_empty_folder_is_called_empty(tmp_path: Path) -> None:
    """The error says that the folder is empty."""
    assert advice(tmp_path).endswith("it is empty")


def test_another_folder_is_described(tmp_path: Path) -> None:
    """The error lists the content of any other folder, at most five names, and says what to pass."""
    (tmp_path / "notes.txt").touch()
    assert advice(tmp_path).endswith("it has notes.txt; pass the `params` folder of a checkpoint")
    list(map(Path.touch, map(tmp_path.joinpath, "abcde")))
    assert advice(tmp_path).endswith("it has a, b, c, d, e, ...; pass the `params` folder of a checkpoint")


def test_an_npz_is_refused_with_its_loader(tmp_path: Path) -> None:
    """The error of an npz file names the loader for it."""
    (tmp_path / "pt_224.npz").touch()
    assert "use PaliGemmaWeightLoader(path)" in advice(tmp_path / "pt_224.npz")


def test_a_path_like_object_is_a_path(stored: Path) -> None:
    """Any ``os.PathLike`` is accepted."""

    class Elsewhere(os.PathLike):
        def __fspath__(self) -> str:
            return str(stored)

    assert restore_params(Elsewhere()).keys() == restore_params(stored).keys()
