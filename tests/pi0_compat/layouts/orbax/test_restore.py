"""Reading and writing openpi's checkpoint layout: names, placement, and what wrong files and paths are told."""

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
from fixtures.writers import openpi_orbax
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax import restore as checkpoints
from pi0_compat.layouts.orbax.folder import METADATA_FILE
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.orbax.restore import restore_leaves, restore_params
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
    """A checkpoint of ``LORA`` that ``save_params`` wrote."""
    path = tmp_path_factory.mktemp("stored") / "params"
    save_params(lora_params(), path, config=LORA)
    return path


@pytest.mark.parametrize("suffix", [True, False])
def test_an_only_child_called_value_keeps_its_name(tmp_path: Path, suffix: bool) -> None:
    """Our checkpoints record the suffix, so a parameter that is really called ``value`` survives."""
    save_params({"critic/value": np.ones(2)}, tmp_path / "params", value_suffix=suffix)
    assert list(read_metadata(tmp_path / "params").leaves) == ["critic/value"]


def test_the_suffix_can_be_told(tmp_path: Path) -> None:
    """In a foreign checkpoint, ``value_suffix=False`` says that ``value`` is a name."""
    openpi_orbax.write({"critic/value": np.ones(2, np.float32)}, tmp_path / "p", value_suffix=False)
    assert list(restore_params(tmp_path / "p", value_suffix=False)) == ["critic/value"]
    assert list(restore_params(tmp_path / "p")) == ["critic"]


@pytest.mark.parametrize("form", [dict, unflatten])
@pytest.mark.parametrize("kind", [str, Path])
def test_round_trip(tmp_path: Path, form: Callable, kind: type) -> None:
    """Flat or nested, to a str or a Path, what is saved is restored bit for bit in path order."""
    save_params(form(dict(reversed(PARAMS.items()))), kind(tmp_path / "params"))
    restored = restore_params(kind(tmp_path / "params"), restore_type=np.ndarray)
    assert list(restored) == sorted(PARAMS)
    assert_same_bits(restored, PARAMS)


@pytest.mark.parametrize(
    "array",
    [np.float32(3.5), np.ones((1, 1, 1), np.float32), np.asfortranarray(np.eye(3)[:2])],
    ids=["scalar", "ones", "fortran_order"],
)
def test_odd_arrays_make_the_round_trip(tmp_path: Path, array: np.ndarray) -> None:
    """Scalars and arrays in Fortran order come back as they were."""
    save_params({"a": array, "b": np.ones(2)}, tmp_path / "params")
    restored = restore_params(tmp_path / "params", restore_type=np.ndarray)["a"]
    assert_same_bits({"a": restored}, {"a": array})


def test_keys_with_slashes_make_the_round_trip(tmp_path: Path) -> None:
    """A slash or a tilde inside a key is stored and restored as part of the key."""
    nested = {"a/b": {"c~1": np.ones(2, np.float32)}, "a": {"b": np.zeros(2, np.float32)}}
    save_params(nested, tmp_path / "params")
    assert_same_bits(restore_params(tmp_path / "params", restore_type=np.ndarray), flatten(nested))


def test_dots_in_keys_do_not_collide(tmp_path: Path) -> None:
    """A name may have a dot, but ``a.b`` and ``b`` below ``a`` would be one in orbax, and are refused."""
    params = {"a.b": np.ones(2, np.float32), "c/d": np.zeros(2, np.float32)}
    save_params(params, tmp_path / "params")
    assert_same_bits(restore_params(tmp_path / "params", restore_type=np.ndarray), params)
    with pytest.raises(ValueError, match=r"a/b and a\.b have the same name"):
        save_params(params | {"a/b": np.ones(2, np.float32)}, tmp_path / "other")


def test_metadata_tells_shapes_and_dtypes(stored: Path) -> None:
    """Paths, shapes and dtypes are known before any array is read."""
    assert read_metadata(stored).leaves == leaves_of(lora_params())


def test_rank_and_alpha_are_remembered(tmp_path: Path) -> None:
    """A checkpoint remembers rank, alpha and rslora of its config, that it has none, or that it was not told any."""
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


def test_a_checkpoint_of_openpi_remembers_no_alpha(tmp_path: Path) -> None:
    """What openpi wrote has no record, and that is not the record of a model without LoRA."""
    openpi_orbax.write(PARAMS, tmp_path / "params")
    assert read_metadata(tmp_path / "params").lora is None


@pytest.mark.parametrize("content", ["file", "folder"])
def test_saving_never_overwrites(tmp_path: Path, content: str) -> None:
    """Whatever lies at the path stays, even an empty folder."""
    path = tmp_path / "params"
    path.mkdir() if content == "folder" else path.write_text("mine")
    before = digests(tmp_path)
    with pytest.raises(FileExistsError, match=f"{path}: already exists; choose another folder"):
        save_params(PARAMS, path)
    assert digests(tmp_path) == before


def test_nothing_cannot_be_saved(tmp_path: Path) -> None:
    """Saving no parameters is refused, and no folder appears."""
    with pytest.raises(ValueError, match="there are no parameters to save"):
        save_params({}, tmp_path / "params")
    assert not any(tmp_path.iterdir())


def test_saving_makes_the_parents(tmp_path: Path) -> None:
    """Missing parents of the folder are made."""
    save_params(PARAMS, tmp_path / "a" / "b" / "params")
    assert read_metadata(tmp_path / "a" / "b" / "params").leaves == leaves_of(PARAMS)


def test_relative_paths_are_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is taken from the current folder, for saving and for restoring."""
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
    """A sharding for all parameters is the one that they come back with."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    restored = restore_params(stored, sharding=sharding, verify=verify)
    assert {x.sharding for x in restored.values()} == {sharding}


@both_ways
def test_a_sharding_can_depend_on_the_path(stored: Path, verify: bool) -> None:
    """A function is asked for the sharding of each path once, by the parameter's name."""
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("fsdp",))
    asked = []

    def sharding(path: str) -> jax.sharding.Sharding:
        asked.append(path)
        axis = "fsdp" if path.endswith("kernel") else None
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(axis))

    restored = restore_params(stored, sharding=sharding, verify=verify)
    assert sorted(asked) == sorted(lora_params())
    assert restored["action_in_proj/kernel"].sharding.spec == jax.sharding.PartitionSpec("fsdp")
    assert restored["action_in_proj/bias"].sharding.spec == jax.sharding.PartitionSpec(None)


@both_ways
def test_a_jax_array_takes_over_what_was_read(stored: Path, monkeypatch: pytest.MonkeyPatch, verify: bool) -> None:
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
    """With a dtype every parameter has it, on the host and on the device alike."""
    restored = restore_params(stored, restore_type=restore_type, dtype=ml_dtypes.bfloat16, verify=verify)
    expected = {path: array.astype(ml_dtypes.bfloat16) for path, array in lora_params().items()}
    assert_same_bits(restored, expected)


def test_only_what_is_asked_for_is_restored(stored: Path) -> None:
    """The leaves that are asked for come back, each in its own dtype."""
    dtypes = {"action_in_proj/bias": np.float16, "action_out_proj/bias": None}
    restored = restore_leaves(read_metadata(stored), dtypes)
    found = {path: array.dtype for path, array in restored.items()}
    assert found == {"action_in_proj/bias": np.float16, "action_out_proj/bias": np.float32}


def test_damaged_numbers_are_given_to_who_asks_for_them(tmp_path: Path) -> None:
    """With ``verify=False`` a parameter comes as it is in the files; others are then unharmed."""
    save_params(PARAMS, tmp_path / "params")
    silent_damage.silent_zeros(tmp_path / "params", "head/kernel")
    restored = restore_params(tmp_path / "params", restore_type=np.ndarray, verify=False)
    assert_same_bits(restored, PARAMS | {"head/kernel": np.array([0, 0, 2, 3, 4]).astype(ml_dtypes.bfloat16)})


@pytest.mark.filterwarnings("error")
@both_ways
def test_what_a_cast_makes_infinite_is_no_warning(tmp_path: Path, verify: bool) -> None:
    """A value too large for the dtype that was asked for becomes infinite without a word: loaders refuse it by name."""
    save_params({"a": np.full(2, 1e30, np.float32)}, tmp_path / "params")
    restored = restore_params(tmp_path / "params", restore_type=np.ndarray, dtype=np.float16, verify=verify)
    assert np.isposinf(restored["a"]).all()


@given(st.dictionaries(st.text(max_size=2), st.integers(0, BLOCK_BYTES * 3), max_size=6))
def test_what_is_read_at_once_is_small_or_alone(sizes: dict[str, int]) -> None:
    """Windows go through the parameters in order, and those of several stay within the limit."""
    groups = list(windows(sizes))
    assert [path for group in groups for path in group] == list(sizes)
    assert all(len(group) == 1 or sum(sizes[path] for path in group) <= BLOCK_BYTES for group in groups)


@reads_damage
def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    """A small parameter can be read though the data of a large one is gone."""
    large = np.random.default_rng(0).standard_normal((512, 512), np.float32)
    small = np.ones(2, np.float32)
    save_params({"large": large, "small": small}, tmp_path / "params")
    files = [file for file in (tmp_path / "params").rglob("*") if file.is_file()]
    max(files, key=lambda file: file.stat().st_size).write_bytes(b"")
    metadata = read_metadata(tmp_path / "params")
    assert_same_bits(restore_leaves(metadata, {"small": None}), {"small": small})
    with pytest.raises(CheckpointError):
        restore_leaves(metadata, {"large": None})


def test_float64_is_not_narrowed_in_silence(tmp_path: Path) -> None:
    """Asked for what is stored, float64 is given as float64 or refused, never as float32."""
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
    """Files that are missing or cut raise a ``CheckpointError`` that begins with the folder."""
    damage.apply(damage.spec(), tmp_path / "params")
    with pytest.raises(CheckpointError, match=f"^{tmp_path / 'params'}: "):
        restore_params(tmp_path / "params")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_unreadable_metadata_is_a_checkpoint_error(tmp_path: Path, text: str) -> None:
    """Whatever stands in ``_METADATA`` in place of the tree, the error names the folder."""
    save_params(PARAMS, tmp_path / "params")
    (tmp_path / "params" / METADATA_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=f"^{tmp_path / 'params'}: "):
        read_metadata(tmp_path / "params")


def test_another_top_level_is_named(tmp_path: Path) -> None:
    """An orbax checkpoint of something else is refused with what it holds."""
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", {"step": np.ones(1), "model": {"w": np.ones(1)}})
    with pytest.raises(CheckpointError, match=r"found the top level \['model', 'step'\]"):
        read_metadata(tmp_path / "state")


def advice(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        restore_params(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_nowhere_is_no_checkpoint(tmp_path: Path) -> None:
    """A path where nothing is says so."""
    assert "no such folder" in advice(tmp_path / "nowhere")


def test_the_folder_of_a_step_is_told_apart(stored: Path) -> None:
    """Given a step's folder, the error says to pass its ``params``."""
    assert advice(stored.parent).endswith(f"this is the folder of a step: pass {stored}")


def test_the_folder_of_a_run_is_told_apart(stored: Path, tmp_path: Path) -> None:
    """Given a run's folder, the error says to pass the latest step's ``params``: 10 comes after 9."""
    for step in ("9", "10"):
        shutil.copytree(stored, tmp_path / step / "params")
    assert advice(tmp_path).endswith(f"folder of a run: pass {tmp_path / '10' / 'params'}")


def test_a_pytorch_folder_is_told_apart(tmp_path: Path) -> None:
    """A folder of safetensors is called a PyTorch checkpoint."""
    (tmp_path / "model.safetensors").touch()
    assert "PyTorch" in advice(tmp_path)


def test_an_empty_folder_is_called_empty(tmp_path: Path) -> None:
    """An empty folder is said to be empty."""
    assert advice(tmp_path).endswith("it is empty")


def test_a_strange_folder_is_described(tmp_path: Path) -> None:
    """Of a folder that is none of these, the error lists what is in it."""
    (tmp_path / "notes.txt").touch()
    assert advice(tmp_path).endswith("it has ['notes.txt']")


def test_an_npz_is_sent_to_its_loader(tmp_path: Path) -> None:
    """An npz file is refused with the loader that takes it."""
    (tmp_path / "pt_224.npz").touch()
    assert "use PaliGemmaWeightLoader(path)" in advice(tmp_path / "pt_224.npz")


def test_a_path_like_object_is_a_path(stored: Path) -> None:
    """Any ``os.PathLike`` is taken."""

    class Elsewhere(os.PathLike):
        def __fspath__(self) -> str:
            return str(stored)

    assert restore_params(Elsewhere()).keys() == restore_params(stored).keys()
