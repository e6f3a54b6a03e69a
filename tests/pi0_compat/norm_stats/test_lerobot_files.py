"""lerobot's processor files are read by the names in them, and what is damaged is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.torch.safetensors_file import write_safetensors
from pi0_compat.norm_stats.lerobot_files import Feature, has_processors, read_processors, write_tensors
from pi0_compat.norm_stats.stats import Stats
from pi0_compat.params import Leaf

FEATURES = {
    "observation.state": {"type": "STATE", "shape": [2]},
    "observation.images.base": {"type": "VISUAL", "shape": [3, 8, 8]},
    "action": {"type": "ACTION", "shape": [2]},
}
MODES = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "QUANTILES"}
STATS = {
    "observation.state": Stats(mean=np.array([0.5, 1]), std=np.array([1.0, 2])),
    "action": Stats(q01=np.array([-1.0, -2]), q99=np.array([1.0, 3])),
}


def pipeline(folder: Path, *, number: int = 5, step: dict | None = None, **config: object) -> Path:
    """Write a preprocessor whose normalizing step has a number, and its statistics; return the JSON file."""
    state = f"policy_preprocessor_step_{number}_normalizer_processor.safetensors"
    write_tensors(STATS, folder / state)
    settings = {"eps": 1e-8, "features": FEATURES, "norm_map": MODES, **config}
    steps = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "normalizer_processor", "config": settings, "state_file": state, **(step or {})},
    ]
    file = folder / "policy_preprocessor.json"
    file.write_text(json.dumps({"name": "policy_preprocessor", "steps": steps}))
    return file


@pytest.mark.parametrize("number", [2, 5, 6])
def test_the_state_file_is_followed(tmp_path: Path, number: int) -> None:
    """The number of the step, which versions of lerobot do not agree on, does not matter."""
    pipeline(tmp_path, number=number, eps=1e-5)
    assert has_processors(tmp_path)
    step, back = read_processors(tmp_path)
    assert back is None
    assert step
    assert (step.eps, step.modes) == (1e-5, MODES)
    assert step.features["observation.images.base"] == Feature("VISUAL", (3, 8, 8))
    assert {name: step.mode(name) for name in FEATURES} == {
        "observation.state": "MEAN_STD",
        "observation.images.base": "IDENTITY",
        "action": "QUANTILES",
    }
    assert step.stats.keys() == STATS.keys()
    assert all(step.stats[name].same_as(STATS[name]) for name in STATS)


def test_a_step_without_statistics_changes_nothing(tmp_path: Path) -> None:
    """As lerobot does, a feature without statistics passes."""
    pipeline(tmp_path, step={"state_file": None})
    step = read_processors(tmp_path).normalizer
    assert step
    assert (step.state_file, step.stats, step.mode("action")) == (None, {}, "IDENTITY")


def test_a_folder_without_a_pipeline(tmp_path: Path) -> None:
    """No file is no error."""
    assert not has_processors(tmp_path)
    assert read_processors(tmp_path) == (None, None)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"state_file": "../other.safetensors"}, "expected a file of the folder itself"),
        ({"state_file": 5}, "state_file is 5"),
        ({"state_file": "gone.safetensors"}, "gone.safetensors: not there"),
        ({"config": {"features": {"action": {"type": "ACTION"}}}}, "the feature action is {'type': 'ACTION'}"),
        ({"config": {"norm_map": {"ACTION": 3}}}, "norm_map is {'ACTION': 3}"),
        ({"config": {"eps": "small"}}, "eps is 'small'"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, step: dict, words: str) -> None:
    """A pipeline that cannot be followed is rejected, with its path."""
    pipeline(tmp_path, step=step)
    with pytest.raises(CheckpointError) as caught:
        read_processors(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", ["[]", '{"steps": 3}', '{"steps": [3]}'])
def test_no_pipeline(tmp_path: Path, content: str) -> None:
    """Other JSON in the pipeline's place is named."""
    (tmp_path / "policy_preprocessor.json").write_text(content)
    with pytest.raises(CheckpointError, match="expected a pipeline of lerobot with steps"):
        read_processors(tmp_path)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_statistics_are_vectors_of_floats(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Anything else as a statistic is rejected; images and counts are not looked at."""
    tensors: dict[str, np.ndarray] = {
        "observation.images.base.mean": np.zeros((3, 1, 1), np.float32),
        "action.count": np.zeros(1, np.int64),
        "action.mean": np.zeros(shape, np.float32),
    }
    leaves = {name: Leaf(x.shape, x.dtype) for name, x in tensors.items()}
    write_safetensors(tmp_path / "other", leaves, tensors.items())
    pipeline(tmp_path, step={"state_file": "other"})
    if len(shape) == 1:
        step = read_processors(tmp_path).normalizer
        assert step
        found = {name: set(dict(one.known())) for name, one in step.stats.items()}
        assert found == {"action": {"mean"}, "observation.images.base": set()}
        return
    with pytest.raises(CheckpointError, match=r"action.mean is float32\[2, 1\]; expected a vector of floats"):
        read_processors(tmp_path)
