"""What openpi does and lerobot cannot say is refused, or needs an option; none of it is dropped."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fixtures import lerobot_files
from pi0_compat import convert_checkpoint, named_model
from pi0_compat.cli import main as cli
from pi0_compat.cli.parsers import lerobot as parser
from pi0_compat.errors import LoadError
from pi0_compat.layouts.lerobot.config import LATEST
from pi0_compat.layouts.lerobot.options import LerobotOptions
from pi0_compat.model.named import named_models
from pi0_compat.model.named_data import data_facts
from tests.pi0_compat.checkpoints.lerobot_steps import STATS, policy, step


def _refusal(tmp_path: Path, family: str = "pi0", config: str = "", **options: Any) -> str:
    with pytest.raises(LoadError) as error:
        policy(tmp_path, family, config, **options)
    assert not (tmp_path / "policy").exists()
    return str(error.value)


def _json(tmp_path: Path, name: str) -> Any:
    return json.loads((tmp_path / "policy" / name).read_text())


def _steps(tmp_path: Path, name: str = "policy_preprocessor.json") -> dict[str, Any]:
    return {one["registry_name"]: one["config"] for one in _json(tmp_path, name)["steps"]}


def test_prompt_without_state_needs_a_word(tmp_path: Path) -> None:
    """pi05_libero has no state in its prompt, and lerobot's own pipeline writes it: refused, and then left out."""
    message = _refusal(tmp_path, "pi05", "pi05_libero_tiny")
    assert "discrete_state_input=False" in message
    assert "--state-in-prompt no" in message
    policy(tmp_path, "pi05", "pi05_libero_tiny", state_in_prompt=False)
    assert "pi05_prepare_state_tokenizer_processor_step" not in _steps(tmp_path)
    names = list(_steps(tmp_path))
    assert names.index("pi0_new_line_processor") + 1 == names.index("tokenizer_processor")


def test_what_the_config_has_cannot_be_contradicted(tmp_path: Path) -> None:
    """A pi05 that had the state in its prompt cannot be written without it, nor the other way around."""
    assert "discrete_state_input=True" in _refusal(tmp_path, "pi05", state_in_prompt=False)
    assert "discrete_state_input=False" in _refusal(tmp_path, "pi05", "pi05_libero_tiny", state_in_prompt=True)
    assert "is for a pi05" in _refusal(tmp_path, "pi0", state_in_prompt=True)


def test_delta_actions_of_a_config_are_written(tmp_path: Path) -> None:
    """pi0_libero: six dimensions are relative to the state; the gripper, and what is beyond the mask, are not."""
    policy(tmp_path, config="pi0_libero_tiny")
    config, relative = _json(tmp_path, "config.json"), _steps(tmp_path)["relative_actions_processor"]
    assert config["use_relative_actions"]
    assert relative["enabled"]
    assert _steps(tmp_path, "policy_postprocessor.json")["absolute_actions_processor"] == {"enabled": True}
    assert relative["action_names"] == config["action_feature_names"]
    assert relative["exclude_joints"] == config["relative_exclude_joints"]
    assert _relative(relative) == [True] * 6 + [False] * 2


def _relative(relative: dict[str, Any]) -> list[bool]:
    """Return which dimensions are relative, as lerobot decides (``processor/relative_action_processor.py:111-130``)."""
    tokens = [name.lower() for name in relative["exclude_joints"] if name]
    return [not any(token in name.lower() for token in tokens) for name in relative["action_names"]]


def test_names_of_actions_decide_in_lerobot(tmp_path: Path) -> None:
    """Names are written as they are given, unless lerobot would take a relative dimension for an absolute one."""
    names = ("a", "b", "c", "d", "e", "f", "gripper", "spare")
    policy(tmp_path, delta_actions=(6, -2), action_names=names)
    assert _relative(_steps(tmp_path)["relative_actions_processor"]) == [True] * 6 + [False] * 2
    shutil.rmtree(tmp_path / "policy")
    message = _refusal(tmp_path, delta_actions=(6, -2), action_names=(*names[:5], "Gripper_wrist", *names[6:]))
    assert "Gripper_wrist" in message
    assert "2 names" in _refusal(tmp_path, delta_actions=(6, -2), action_names=names[:2])


def test_unknown_config_has_to_say_what_it_does(tmp_path: Path) -> None:
    """Sizes alone do not show relative actions, or the state in the prompt of a pi05."""
    step(tmp_path / "pi05", "pi05_base")
    model = named_model("pi05_base_tiny")

    def convert(**options: Any) -> None:
        lerobot = LerobotOptions(**options)
        convert_checkpoint(tmp_path / "pi05", tmp_path / "policy", config=model, layout="lerobot", lerobot=lerobot)

    with pytest.raises(LoadError, match="--delta-actions"):
        convert()
    with pytest.raises(LoadError, match="--state-in-prompt"):
        convert(delta_actions=())
    convert(delta_actions=(), state_in_prompt=True)
    assert not _json(tmp_path, "config.json")["use_relative_actions"]


def test_earlier_versions_cannot_say_relative_actions(tmp_path: Path) -> None:
    """lerobot has them since 0.5.1; absolute ones can be written for any version."""
    assert "since 0.5.1" in _refusal(tmp_path, config="pi0_libero_tiny", version="0.5.0")
    policy(tmp_path, config="pi0_droid_tiny", version="0.5.0")
    assert "relative_actions_processor" not in _steps(tmp_path)


def test_robot_transforms_are_refused(tmp_path: Path) -> None:
    """adapt_to_pi of the ALOHA configs has no step in lerobot."""
    message = _refusal(tmp_path, config="pi0_aloha_sim_tiny")
    assert "adapt_to_pi" in message
    assert "--without-robot-transforms" in message
    policy(tmp_path, config="pi0_aloha_sim_tiny", robot_transforms=False)


def test_norm_stats_are_needed(tmp_path: Path) -> None:
    """Without them lerobot would leave states and actions as they are, silently; that needs a word."""
    step(tmp_path / "pi0", stats=None)
    assert "--without-norm-stats" in _refusal(tmp_path)
    policy(tmp_path, norm_stats=False)
    assert "state_file" not in (tmp_path / "policy" / "policy_preprocessor.json").read_text()


def test_several_asset_ids_need_one(tmp_path: Path) -> None:
    """The named config's asset id is taken if it is there; otherwise one has to be named."""
    step(tmp_path / "pi0")
    libero = tmp_path / "pi0" / "assets" / "physical-intelligence" / "libero" / "norm_stats.json"
    libero.parent.mkdir(parents=True)
    shutil.copyfile(lerobot_files.NORM_STATS, libero)
    message = _refusal(tmp_path)
    assert "physical-intelligence/libero, robot" in message
    assert "--asset-id" in message
    assert "no norm stats of 'else'" in _refusal(tmp_path, asset_id="else")
    policy(tmp_path, asset_id="robot")
    assert (tmp_path / "policy" / STATS).is_file()
    policy(tmp_path, config="pi0_libero_tiny", out="libero")
    assert (tmp_path / "libero" / "assets" / "physical-intelligence" / "libero" / "norm_stats.json").is_file()


def test_cameras(tmp_path: Path) -> None:
    """Images are in the order of openpi's cameras, whatever the order they are given in."""
    policy(tmp_path, cameras={"left_wrist_0_rgb": "observation.images.wrist", "base_0_rgb": "observation.images.top"})
    features = _json(tmp_path, "config.json")["input_features"]
    assert list(features) == ["observation.images.top", "observation.images.wrist", "observation.state"]
    with pytest.raises(ValueError, match="did you mean base_0_rgb"):
        LerobotOptions(cameras={"base_0": "x"})
    with pytest.raises(ValueError, match="a key of its own"):
        LerobotOptions(cameras={"base_0_rgb": "x", "left_wrist_0_rgb": "x"})
    shutil.rmtree(tmp_path / "policy")
    assert "base_1_rgb is no camera of a pi0" in _refusal(tmp_path, cameras={"base_1_rgb": "x"})


def test_sizes_that_do_not_fit(tmp_path: Path) -> None:
    """More numbers than the model takes, or than the norm stats of the state have."""
    assert "has 9 numbers, the model takes 8" in _refusal(tmp_path, action_dim=9)
    stats = json.loads(lerobot_files.NORM_STATS.read_text())
    stats["norm_stats"]["state"] = {key: values[:5] for key, values in stats["norm_stats"]["state"].items()}
    (tmp_path / "pi0" / STATS).write_text(json.dumps(stats))
    assert "norm stats of 5 numbers" in _refusal(tmp_path, state_dim=7)


@pytest.mark.parametrize(
    "options", [{"version": "0.7.0"}, {"state_dim": 0}, {"delta_actions": (6, 0)}, {"cameras": {}}], ids=str
)
def test_options_that_are_not_allowed(options: Any) -> None:
    """The error names the option."""
    with pytest.raises(ValueError, match=next(iter(options))):
        LerobotOptions(**options)


def test_options_are_for_lerobot_alone(tmp_path: Path) -> None:
    """For another layout they would do nothing."""
    with pytest.raises(ValueError, match="for the layout lerobot"):
        convert_checkpoint(tmp_path, tmp_path / "out", layout="openpi", lerobot=LerobotOptions())


def test_command_takes_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option of the command arrives in the folder."""
    step(tmp_path / "pi05", "pi05_base")
    options = "--camera base_0_rgb=observation.images.top --state-dim 7 --action-dim 7 --asset-id robot --device cuda"
    options += " --delta-actions 6,-1 --action-names a,b,c,d,e,f,grip --state-in-prompt no --without-robot-transforms"
    arguments = ["convert", str(tmp_path / "pi05"), "--to", "lerobot", "-o", str(tmp_path / "policy")]
    options += f" --config pi05_libero_tiny --lerobot-version {LATEST}"
    assert cli.main([*arguments, *options.split()]) == 0
    config = _json(tmp_path, "config.json")
    assert list(config["input_features"]) == ["observation.images.top", "observation.state"]
    assert config["input_features"]["observation.state"]["shape"] == [7]
    assert config["output_features"]["action"]["shape"] == [7]
    assert (config["device"], config["relative_exclude_joints"]) == ("cuda", ["grip"])
    assert "norm stats: copied" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--to lerobot --camera top", "expected CAMERA=KEY"),
        ("--to lerobot --delta-actions six", "for example 6,-1"),
        ("--to lerobot --lerobot-version 9.9", "expected one of 0.4.0"),
        ("--to openpi --state-dim 7", "for --to lerobot"),
    ],
)
def test_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, words: str) -> None:
    """The message says what was expected, before anything is read."""
    assert cli.main(["convert", str(tmp_path), "-o", str(tmp_path / "out"), *options.split()]) == 2
    assert words in capsys.readouterr().err


def test_every_named_config_has_facts() -> None:
    """Facts are of configs that exist, and a tiny twin does what its original does."""
    assert all(data_facts(f"{name}_tiny") == data_facts(name) for name in named_models() if not name.endswith("_tiny"))
    with pytest.raises(KeyError):
        data_facts("pi0_unknown")
    assert parser._LATEST == LATEST
