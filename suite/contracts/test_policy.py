"""lerobot's policy folders: what is in them is openpi's checkpoint, and a robot gets openpi's actions."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import converted_policies, lerobot_files
from fixtures.golden_cases import GOLDEN, read_case
from fixtures.params import Array, Params
from fixtures.specs import without_lora
from fixtures.writers import lerobot, openpi_pytorch, safetensors_file
from fixtures.writers.openpi import read_params
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_same_bits, refused
from suite.writing.cases import digests, is_adapter

ACT, WRITE = ("act", "lerobot"), ("write_policy",)
# float32 statistics, and openpi's in float64.
NORMALIZED_ATOL = 1e-6
# As in test_golden, in units of the actions that the model returns.
ACTIONS_ATOL = 3e-4


@dataclass(frozen=True)
class Policy:
    """A converted policy, and what a subject declares that runs it."""

    case: str
    needs: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        return self.case.partition("_")[0]


POLICIES = [Policy("pi0_base"), Policy("pi05_base"), Policy("pi0_lora", needs=("peft_training",))]
BASES = ["pi0_base", "pi05_base"]


def _acted(subject: Subject, policy: Policy, folder: Path) -> tuple[Params, Params]:
    """Return what the subject makes of the golden batch, seen by the robot, and what openpi makes of it."""
    case, io = read_case(GOLDEN / policy.case), lerobot_files.normalized(policy.family)
    path = shutil.copytree(converted_policies.FOLDER / policy.case, folder / "policy")
    if policy.needs:
        _with_base(case, path, folder / converted_policies.BASE)
    seen = case.batch | {"state": io["raw_state"], "actions": io["raw_actions"]}
    return subject.act(case.spec, str(path), seen, case.batch["noise"]), io


def _with_base(case: Any, path: Path, base: Path) -> None:
    """Write the base of adapters, and say in their config where it is."""
    params = {name: x for name, x in read_params(case.checkpoint).items() if not is_adapter(name)}
    lerobot.write(lerobot.tensors(params), base, without_lora(case.spec))
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(base)}))


@contract(source="openpi transforms.py:137-180; lerobot normalize_processor.py:330", needs=ACT)
@pytest.mark.parametrize("policy", POLICIES[:2], ids=lambda policy: policy.case)
@pytest.mark.parametrize("name", ["state", "actions"])
def test_numbers_are_normalized_as_in_openpi(subject: Subject, tmp_path: Path, policy: Policy, name: str) -> None:
    """By the statistics of a converted policy, what a robot sees and does becomes what openpi normalizes it to."""
    found, io = _acted(subject, policy, tmp_path)
    assert_close(found[name], io[name], atol=NORMALIZED_ATOL)


@contract(source="openpi policy.py:80, transforms.py:160-180; lerobot #2616, #997", needs=ACT)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.case)
def test_robot_gets_openpis_actions(subject: Subject, tmp_path: Path, policy: Policy) -> None:
    """From the same noise, a converted policy, or adapters on theirs, gives the robot the actions that openpi gives."""
    case = read_case(GOLDEN / policy.case)
    found, _ = _acted(subject, policy, tmp_path)
    shift, scale = _affine(policy.family, "actions")
    assert_close((found["robot_actions"] - shift) / scale, case.sampled_actions, atol=ACTIONS_ATOL)


def _affine(family: str, name: str) -> tuple[Array, Array]:
    """Return what openpi subtracts from a value, and what it then divides it by."""
    document = json.loads(lerobot_files.NORM_STATS.read_text())["norm_stats"][name]
    stats = {key: np.array(values) for key, values in document.items()}
    if family == "pi0":
        return stats["mean"], stats["std"] + 1e-6
    half = (stats["q99"] - stats["q01"] + 1e-6) / 2
    return stats["q01"] + half, half


def _written(subject: Subject, case: str, folder: Path, **options: Any) -> Path:
    """Write a golden checkpoint with norm stats as a policy; return the policy's folder."""
    said = {"delta_actions": [], **({"state_in_prompt": True} if case.startswith("pi05") else {}), **options}
    step = converted_policies.step(case, folder / "1000")
    subject.write_policy(read_case(GOLDEN / case).spec, str(step), str(folder / "out"), said)
    return folder / "out"


@contract(source="lerobot #3355, #3479, #4655: an unknown field is a DecodingError", needs=WRITE)
@pytest.mark.parametrize("case", BASES)
def test_config_has_the_fields_of_its_version(subject: Subject, tmp_path: Path, case: str) -> None:
    """``config.json`` has all fields that lerobot 0.6.1 declares for the family, and no other one."""
    config = json.loads((_written(subject, case, tmp_path) / "config.json").read_text())
    assert sorted(config) == sorted(lerobot_files.fields()["0.6.1"][case.partition("_")[0]])


@contract(source="openpi config.py:187; lerobot configuration_pi05.py:78", needs=WRITE)
@pytest.mark.parametrize("case", BASES)
@pytest.mark.parametrize("file", ["policy_preprocessor.json", "policy_postprocessor.json"])
def test_steps_are_lerobots(subject: Subject, tmp_path: Path, case: str, file: str) -> None:
    """Both pipelines have lerobot's steps, in its order, and normalize as openpi does for the family."""
    expected = lerobot_files.saved(case.partition("_")[0])[file]["steps"]
    found = json.loads((_written(subject, case, tmp_path) / file).read_text())["steps"]
    assert [step["registry_name"] for step in found] == [step["registry_name"] for step in expected]
    assert [step["config"].get("norm_map") for step in found] == [step["config"].get("norm_map") for step in expected]


@contract(source="lerobot normalize_processor.py:330; OpenTau #481, #485; docs/bugs.md#g4", needs=WRITE)
@pytest.mark.parametrize("case", BASES)
def test_statistics_have_openpis_epsilon(subject: Subject, tmp_path: Path, case: str) -> None:
    """What lerobot subtracts and divides by before the policy, and multiplies by after it, is openpi's to 1e-6."""
    policy, family = _written(subject, case, tmp_path), case.partition("_")[0]
    shift, scale = _affine(family, "actions")
    for name in ("policy_preprocessor", "policy_postprocessor"):
        low, span = _lerobot_affine(policy, name, family, inverse=name == "policy_postprocessor")
        assert_close(low, shift, rtol=1e-6, atol=1e-6, name=f"what {name} subtracts")
        assert_close(span, scale, rtol=1e-6, name=f"what {name} divides by")


def _lerobot_affine(policy: Path, name: str, family: str, *, inverse: bool) -> tuple[Array, Array]:
    """Return what lerobot subtracts from an action, and divides it by, as its formulas have it."""
    steps = json.loads((policy / f"{name}.json").read_text())["steps"]
    step = next(step for step in steps if "norm_map" in step["config"])
    stats = safetensors_file.read(policy / step["state_file"])
    first, second = ("mean", "std") if family == "pi0" else ("q01", "q99")
    low, high = (np.asarray(stats[f"action.{key}"], np.float64) for key in (first, second))
    if family == "pi0":
        return low, high if inverse else high + step["config"]["eps"]
    return low + (high - low) / 2, (high - low) / 2


@contract(source="lerobot modeling_pi0.py:940; openpi #538, #985; docs/bugs.md#g7", needs=WRITE)
@pytest.mark.parametrize("case", BASES)
def test_every_tensor_of_a_policy_is_written(subject: Subject, tmp_path: Path, case: str) -> None:
    """A policy has every parameter bit for bit under lerobot's names, and the token table under both of its names."""
    policy = _written(subject, case, tmp_path)
    named = openpi_pytorch.tensors(read_params(GOLDEN / case / "params"))
    named[openpi_pytorch.LM_HEAD] = named[openpi_pytorch.TOKEN_TABLE]
    found = safetensors_file.read(policy / "model.safetensors")
    assert found.pop(lerobot.ROOT + openpi_pytorch.EXPERT_HEAD).shape == (509, 36)
    assert_same_bits(found, {lerobot.ROOT + name: np.ascontiguousarray(x) for name, x in named.items()})


@contract(source="openpi config.py:745, :681; lerobot processor_pi05.py:78", needs=WRITE)
@pytest.mark.parametrize(("said", "unsaid"), [("state_in_prompt", "delta_actions"), ("delta_actions", "prompt")])
def test_what_no_file_shows_has_to_be_said(subject: Subject, tmp_path: Path, said: str, unsaid: str) -> None:
    """Relative actions, and whether the prompt has the state, are refused by name unless they are known."""
    spec, step = read_case(GOLDEN / "pi05_base").spec, converted_policies.step("pi05_base", tmp_path / "1000")
    options = {"state_in_prompt": True, "delta_actions": []}
    with refused(unsaid):
        subject.write_policy(spec, str(step), str(tmp_path / "out"), {said: options[said]})
    assert not (tmp_path / "out").exists()


@contract(source="openpi transforms.py:204-244; lerobot relative_action_processor.py:111-130, #2970", needs=WRITE)
@pytest.mark.parametrize("mask", [[6, -2], [-1, 5, -2], [8]], ids=str)
def test_relative_actions_are_those_of_the_mask(subject: Subject, tmp_path: Path, mask: list[int]) -> None:
    """By the names that are written, lerobot takes just those dimensions for relative that openpi's mask has."""
    policy = _written(subject, "pi0_base", tmp_path, delta_actions=mask)
    steps = json.loads((policy / "policy_preprocessor.json").read_text())["steps"]
    relative = next(step["config"] for step in steps if step["registry_name"] == "relative_actions_processor")
    names, tokens = relative["action_names"], [token.lower() for token in relative["exclude_joints"]]
    found = [relative["enabled"] and not any(token in name.lower() for token in tokens) for name in names]
    assert found == [n > 0 for n in mask for _ in range(abs(n))]


@contract(source="docs/bugs.md#g11; NeMo Automodel #3567: a converter run twice", needs=WRITE)
def test_two_runs_write_the_same_policy(subject: Subject, tmp_path: Path) -> None:
    """A checkpoint that is written as a policy twice gives the same bytes in every file."""
    one, other = (_written(subject, "pi0_base", tmp_path / name) for name in ("one", "other"))
    assert digests(one) == digests(other)


@contract(source="lerobot #2616; Hub model cards", needs=WRITE)
def test_card_says_where_a_policy_is_from(subject: Subject, tmp_path: Path) -> None:
    """The model card has the family, a digest of the source and lerobot's version, and no folder of the machine."""
    card = (_written(subject, "pi05_base", tmp_path) / "README.md").read_text()
    assert [word for word in ("pi05", "1000", "0.6.1") if word not in card] == []
    assert re.search(r"sha256 [0-9a-f]{64} of 51 parameters", card)
    assert str(tmp_path) not in card
