"""Options from a data set's ``meta/info.json``."""

import json
from pathlib import Path
from typing import Any

import pytest

from pi0_compat import LerobotOptions
from pi0_compat.cli import main as cli
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.lerobot.dataset import with_dataset
from tests.pi0_compat.checkpoints.lerobot_steps import step

TOP, WRIST = "observation.images.top", "observation.images.wrist"
NAMES = ["waist", "shoulder", "elbow", "forearm", "wrist", "rotation", "gripper"]
CAMERAS = {"base_0_rgb": TOP, "left_wrist_0_rgb": WRIST}


def _info(folder: Path, names: Any = NAMES, **features: Any) -> Path:
    """Write the description of a data set of seven joints and two cameras; return its file."""
    vector = {"dtype": "float32", "shape": [7], "names": names}
    image = {"dtype": "video", "shape": [480, 640, 3], "names": ["height", "width", "channels"]}
    known = {"observation.state": vector, "action": vector, TOP: image, WRIST: image} | features
    file = folder / "info.json"
    file.write_text(json.dumps({"codebase_version": "v3.0", "features": {k: v for k, v in known.items() if v}}))
    return file


@pytest.mark.parametrize("names", [NAMES, {"motors": NAMES}], ids=["list", "by key"])
def test_sizes_and_names_are_the_data_sets(tmp_path: Path, names: Any) -> None:
    """Names are a list, or a list by a key of any name."""
    options = with_dataset(LerobotOptions(cameras=CAMERAS), _info(tmp_path, names))
    assert (options.state_dim, options.action_dim) == (7, 7)
    assert options.action_names == tuple(NAMES)


def test_what_is_said_stays(tmp_path: Path) -> None:
    """Options count before the data set."""
    said = LerobotOptions(cameras=CAMERAS, state_dim=5, action_names=("a",) * 7)
    options = with_dataset(said, _info(tmp_path))
    assert (options.state_dim, options.action_dim, options.action_names) == (5, 7, ("a",) * 7)


@pytest.mark.parametrize("names", [None, NAMES[:3], {"one": NAMES, "other": NAMES}, [1] * 7], ids=str)
def test_names_that_are_none_are_left_out(tmp_path: Path, names: Any) -> None:
    """No name is made up of what is not one for each dimension."""
    assert with_dataset(LerobotOptions(cameras=CAMERAS), _info(tmp_path, names)).action_names is None


def test_cameras_have_to_be_said(tmp_path: Path) -> None:
    """No file tells which image openpi's base camera is, and an image that is not there is refused."""
    with pytest.raises(LoadError, match=f"--camera base_0_rgb={TOP}"):
        with_dataset(LerobotOptions(), _info(tmp_path))
    with pytest.raises(LoadError, match="no image 'top'"):
        with_dataset(LerobotOptions(cameras={"base_0_rgb": "top"}), _info(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", '{"features": {"action": 3}}', '{"features": {}}'])
def test_what_is_no_data_set_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "info.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"info\.json"):
        with_dataset(LerobotOptions(cameras=CAMERAS), tmp_path / "info.json")


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    matrix = {"dtype": "float32", "shape": [2, 7], "names": None}
    with pytest.raises(CheckpointError, match="action has the shape"):
        with_dataset(LerobotOptions(cameras=CAMERAS), _info(tmp_path, action=matrix))


def test_the_command_takes_it(tmp_path: Path) -> None:
    """Relative actions of pi0_libero get the joints' names, and the gripper stays absolute by its own."""
    step(tmp_path / "step")
    arguments = f"convert {tmp_path / 'step'} --to lerobot --config pi0_libero_tiny -o {tmp_path / 'policy'}"
    cameras = [f"--camera={camera}={key}" for camera, key in CAMERAS.items()]
    assert cli.main([*arguments.split(), "--dataset-info", str(_info(tmp_path)), *cameras]) == 0
    config = json.loads((tmp_path / "policy" / "config.json").read_text())
    assert config["action_feature_names"] == NAMES
    assert config["relative_exclude_joints"] == ["gripper"]
    assert list(config["input_features"]) == [TOP, WRIST, "observation.state"]


def test_it_is_for_lerobot_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(tmp_path), "-o", str(tmp_path / "out"), "--to", "openpi"]
    assert cli.main([*arguments, "--dataset-info", str(_info(tmp_path))]) == 2
    assert "for --to lerobot" in capsys.readouterr().err
