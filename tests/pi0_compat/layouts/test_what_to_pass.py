"""A folder that is no checkpoint, but leads to one: the message says what it is and which path to pass."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fixtures.golden_cases import GOLDEN
from fixtures.writers import safetensors_file
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.detect import detect
from pi0_compat.layouts.orbax.folder import find_params

PARAMS = GOLDEN / "pi0_base" / "params"


def message(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        find_params(path)
    return str(error.value)


@pytest.mark.parametrize("name", ["state", "pytree", "default"])
def test_orbax_has_a_folder_for_the_tree(tmp_path: Path, name: str) -> None:
    """orbax 0.12 saves into `state`, 0.11 into `pytree`: of a checkpoint and of a run, the tree is named."""
    tree = Path(shutil.copytree(PARAMS, tmp_path / "run" / "1000" / name))
    step, run = tree.parent, tree.parent.parent
    assert message(step) == (
        f"{step}: holds no checkpoint (no _METADATA); orbax has put the tree into a folder of its own: pass {tree}"
    )
    shutil.copytree(step, run / "200")
    assert message(run) == f"{run}: holds no checkpoint (no _METADATA); this is the folder of a run: pass {tree}"
    assert detect(tree).path == tree


def test_a_run_of_lerobot_names_its_last_step(tmp_path: Path) -> None:
    """Of lerobot's run, of its checkpoints and of a step, the folder of the policy is named."""
    for step in ("005000", "010000"):
        (tmp_path / "checkpoints" / step / "pretrained_model").mkdir(parents=True)
    last = tmp_path / "checkpoints" / "010000"
    for folder in (tmp_path, tmp_path / "checkpoints"):
        assert message(folder) == (
            f"{folder}: holds no checkpoint (no _METADATA); this is the folder of a run of lerobot's: pass "
            f"{last}/pretrained_model"
        )
    assert message(last) == (
        f"{last}: holds no checkpoint (no _METADATA); this is the folder of a step of lerobot's: pass "
        f"{last}/pretrained_model"
    )


def test_a_folder_of_checkpoints_names_the_first(tmp_path: Path) -> None:
    """The folder above several checkpoints names one of them, and says how many there are."""
    shutil.copytree(PARAMS, tmp_path / "pi0_base" / "params")
    assert message(tmp_path) == (
        f"{tmp_path}: holds no checkpoint (no _METADATA); it is a folder of checkpoints: pass {tmp_path}/pi0_base"
    )
    (tmp_path / "pi0_droid").mkdir()
    (tmp_path / "pi0_droid" / "model.safetensors").touch()
    assert message(tmp_path).endswith(f"pass {tmp_path}/pi0_base (2 checkpoints are below it)")


def test_an_empty_path_is_no_folder() -> None:
    """An empty path, as of an unset variable, is not the working folder."""
    with pytest.raises(CheckpointError, match=r"^expected the path or URL of a checkpoint, found an empty one$"):
        detect("")


def test_a_safetensors_file_of_another_name_is_to_be_passed_itself(tmp_path: Path) -> None:
    """A file that is not called model.safetensors is taken, its folder is not; shards need an index."""
    safetensors_file.write({"a": np.ones(2, np.float32)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError) as caught:
        detect(tmp_path)
    assert str(caught.value).endswith(
        f"weights.safetensors is a PyTorch checkpoint: pass the file, {tmp_path / 'weights.safetensors'}, to a loader "
        "of PyTorch's layouts"
    )
    assert detect(tmp_path / "weights.safetensors").layout == "hugging_face"
    safetensors_file.write({"a": np.ones(2, np.float32)}, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="and 1 more are of a PyTorch checkpoint, without the index"):
        detect(tmp_path)
