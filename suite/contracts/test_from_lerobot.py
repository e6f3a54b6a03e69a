"""Policies that lerobot itself trained and saved: they load, and convert to openpi's layout, with their numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from fixtures import normalization
from fixtures.lerobot_policies import FAMILIES, saved_policy
from fixtures.writers import safetensors_file
from fixtures.writers.openpi import read_params
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_same_bits

NEEDS = ("lerobot", "pi0", "pi05")
# Another implementation of the same function: as for openpi's golden losses.
LOSS_RTOL = 2e-5
# lerobot normalizes in float32: half an ulp of the value and of each of two statistics, at values of up to 8 spreads.
NORMALIZED_ATOL = 4e-6
TABLE = "PaliGemma/llm/embedder/input_embedding"
EMBEDDING = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"


def source(policy: Path, **options: str) -> dict[str, str]:
    return {"kind": "lerobot", "path": str(policy), **options}


@contract(source="lerobot 0.6.1 modeling_pi0.py:744", needs=(*NEEDS, "load", "loss", "float32"))
@pytest.mark.parametrize("family", FAMILIES)
def test_policy_has_its_loss(subject: Subject, family: str) -> None:
    """A policy that lerobot trained and saved loads, and has the loss that lerobot computed."""
    saved = saved_policy(family)
    params = subject.load({**saved.spec}, source(saved.policy), seed=0)["params"]
    loss = subject.loss({**saved.spec}, params, saved.batch, saved.arrays["noise"], saved.arrays["time"], seed=0)
    assert_close(loss, saved.arrays["policy_loss"], rtol=LOSS_RTOL)


@contract(source="lerobot 0.6.1 modeling_pi0.py:690, :946; docs/bugs.md#g7", needs=(*NEEDS, "load"))
@pytest.mark.parametrize("family", FAMILIES)
def test_trained_table_counts(subject: Subject, family: str) -> None:
    """Of lerobot's two token tables, which are not tied, the one that its pi0 and pi0.5 read is the model's."""
    saved = saved_policy(family)
    stored = safetensors_file.read(saved.policy / "model.safetensors")[EMBEDDING]
    params = subject.load({**saved.spec}, source(saved.policy), seed=0)["params"]
    assert_same_bits({TABLE: params[TABLE]}, {TABLE: stored})


@contract(source="lerobot 0.6.1 factory.py:334-372; #3551, #4494", needs=(*NEEDS, "lora", "load", "loss", "float32"))
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_training_has_its_loss(subject: Subject, family: str) -> None:
    """Adapters that lerobot trained, on projections too, and with its alpha of 8, give the loss that it computed."""
    saved = saved_policy(family)
    params = subject.load({**saved.spec}, source(saved.policy, adapter=str(saved.adapter)), seed=0)["params"]
    loss = subject.loss({**saved.spec}, params, saved.batch, saved.arrays["noise"], saved.arrays["time"], seed=0)
    assert_close(loss, saved.arrays["adapter_loss"], rtol=LOSS_RTOL)


@contract(source="openpi #985; lerobot #2616", needs=(*NEEDS, "load", "convert"))
@pytest.mark.parametrize("family", FAMILIES)
def test_converted_policy_is_the_loaded_one(subject: Subject, tmp_path: Path, family: str) -> None:
    """A policy of lerobot's converts to openpi's layout with the parameters that a load of it gives, bit for bit."""
    saved = saved_policy(family)
    subject.convert({**saved.spec}, str(saved.policy), "openpi", str(tmp_path / "out"))
    loaded = subject.load({**saved.spec}, source(saved.policy), seed=0)["params"]
    assert_same_bits(read_params(tmp_path / "out" / "params"), loaded)


@contract(source="lerobot 0.6.1 normalize_processor.py:330; openpi transforms.py:137-180", needs=(*NEEDS, "convert"))
@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_normalized_as_before(subject: Subject, tmp_path: Path, family: str) -> None:
    """With the norm stats of a converted policy, openpi normalizes states and actions as lerobot's preprocessor did."""
    saved = saved_policy(family)
    subject.convert({**saved.spec}, str(saved.policy), "openpi", str(tmp_path / "out"))
    stats, arrays = normalization.read(tmp_path / "out"), saved.arrays
    for name, raw in (("state", "state"), ("actions", "action")):
        normalized = normalization.normalize(arrays[f"raw_{raw}"].astype(np.float64), stats[name], family)
        assert_close(normalized, arrays[f"normalized_{raw}"], atol=NORMALIZED_ATOL)


@contract(source="lerobot 0.6.1 normalize_processor.py:340; openpi transforms.py:160-180", needs=(*NEEDS, "convert"))
@pytest.mark.parametrize("family", FAMILIES)
def test_actions_are_denormalized_as_before(subject: Subject, tmp_path: Path, family: str) -> None:
    """With the norm stats of a converted policy, openpi makes the actions that lerobot's postprocessor makes."""
    saved = saved_policy(family)
    subject.convert({**saved.spec}, str(saved.policy), "openpi", str(tmp_path / "out"))
    actions = normalization.read(tmp_path / "out")["actions"]
    made = normalization.denormalize(saved.arrays["output_action"].astype(np.float64), actions, family)
    assert_close(made, saved.arrays["denormalized_action"], atol=NORMALIZED_ATOL)


@contract(source="lerobot 0.4: 5 and 2, 0.6: 6 and 3; lerobot #3720", needs=(*NEEDS, "convert"))
@pytest.mark.parametrize("number", [2, 5])
def test_statistics_are_where_the_pipeline_says(subject: Subject, tmp_path: Path, number: int) -> None:
    """Statistics are read from the file that the pipeline names, whatever number of step its name has."""
    saved, policy = saved_policy("pi0"), tmp_path / "policy"
    policy.mkdir()
    for file in saved.policy.iterdir():
        (policy / file.name.replace("step_6", f"step_{number}")).write_bytes(file.read_bytes())
    pipeline = policy / "policy_preprocessor.json"
    pipeline.write_text(pipeline.read_text().replace("step_6", f"step_{number}"))
    for path, out in ((saved.policy, "expected"), (policy, "out")):
        subject.convert({**saved.spec}, str(path), "openpi", str(tmp_path / out))
    assert json.dumps(_plain(tmp_path / "out")) == json.dumps(_plain(tmp_path / "expected"))


def _plain(step: Path) -> dict[str, dict[str, list[float]]]:
    stats = normalization.read(step)
    return {name: {key: values.tolist() for key, values in one.items()} for name, one in stats.items()}
