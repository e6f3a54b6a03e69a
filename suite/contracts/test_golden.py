"""Agreement with numbers that openpi computed, from checkpoints that openpi wrote."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fixtures import converted
from fixtures.golden_cases import GOLDEN, GoldenCase, GoldenTraining, read_case
from fixtures.specs import without_lora
from fixtures.writers.openpi import read_params
from suite.contracts.golden_training import assert_reproduces, nearby_runs, train_golden
from suite.session.golden import AnyCase
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_same_bits, assert_same_paths
from suite.writing.cases import from_checkpoint
from suite.writing.remembered import Remembered

# The reference is within 1e-6. openpi's PyTorch model, and lerobot's, embed the time in float64: 1.3e-5.
LOSS_RTOL = 2e-5
# openpi accumulates its times in float32 and is off by 1e-7 after a few steps. The fastest sinusoid of the time has
# 1571 rad (2 pi / 0.004) per unit, so the error is 1.5e-4 rad. transformers, which multiplies, is within 1.7e-4, the
# reference within 3e-6.
ACTIONS_ATOL = 3e-4
# The reference's tokens are within 2e-6; another LayerNorm epsilon (1e-5) changes them by 8e-5.
TOKENS_ATOL = 2e-5
TRAIN_RTOL = 1e-4


@contract(source="openpi pi0.py:189", needs=("loss", "float32"))
def test_loss(subject: Subject, golden_case: GoldenCase) -> None:
    """With openpi's checkpoint, batch, noise and time, the loss is openpi's."""
    case, params = golden_case, read_params(golden_case.checkpoint)
    loss = subject.loss(case.spec, params, case.batch, case.loss_noise, case.loss_time, seed=0)
    assert_close(loss, case.loss, rtol=LOSS_RTOL)


@contract(source="openpi pi0.py:192", needs=("loss", "openpi_keys", "float32"))
def test_loss_from_the_same_key(subject: Subject, golden_case: GoldenCase) -> None:
    """With the same jax key, the noise, the time and therefore the loss are openpi's."""
    case, params = golden_case, read_params(golden_case.checkpoint)
    loss = subject.loss(case.spec, params, case.batch, None, None, seed=case.seed)
    assert_close(loss, case.loss, rtol=LOSS_RTOL)


@contract(source="openpi pi0.py:217", needs=("sample_actions", "float32"))
def test_sampled_actions(subject: Subject, golden_case: GoldenCase) -> None:
    """With the same noise, the sampled actions are openpi's."""
    case, params = golden_case, read_params(golden_case.checkpoint)
    actions = subject.sample_actions(case.spec, params, case.batch, case.batch["noise"], num_steps=case.num_steps)
    assert_close(actions, case.sampled_actions, atol=ACTIONS_ATOL)


@contract(source="openpi pi0.py:106", needs=("embed_prefix", "float32"))
def test_prefix_tokens(subject: Subject, golden_case: GoldenCase) -> None:
    """Images and prompt become openpi's tokens."""
    case, params = golden_case, read_params(golden_case.checkpoint)
    assert_close(subject.embed_prefix(case.spec, params, case.batch), case.prefix_tokens, atol=TOKENS_ATOL)


@contract(source="openpi model.py:281", needs=("restore",))
def test_checkpoint_restores(subject: Subject, any_golden_case: AnyCase) -> None:
    """openpi's checkpoint restores bit for bit."""
    assert_same_bits(subject.restore(str(any_golden_case.checkpoint), None), read_params(any_golden_case.checkpoint))


@contract(source="openpi weight_loaders.py:33", needs=("load", "openpi"))
def test_checkpoint_loads_whole(subject: Subject, any_golden_case: AnyCase) -> None:
    """openpi's checkpoint loads completely for training, bit for bit."""
    source = from_checkpoint(any_golden_case.checkpoint)
    loaded = subject.load(any_golden_case.spec, source, seed=0)["params"]
    assert_same_bits(loaded, read_params(any_golden_case.checkpoint))


@contract(source="openpi model.py:281", needs=("load_for_inference", "openpi"))
def test_checkpoint_is_served_whole(subject: Subject, any_golden_case: AnyCase) -> None:
    """openpi's checkpoint loads completely for serving, bit for bit."""
    loaded = subject.load_for_inference(any_golden_case.spec, str(any_golden_case.checkpoint))
    assert_same_bits(loaded, read_params(any_golden_case.checkpoint))


@pytest.fixture
def golden_run(
    subject: Subject, remembered: Remembered, golden_case: GoldenCase, golden_training: GoldenTraining
) -> Callable[[], dict[str, Any]]:
    """Return the subject's run of a case's training steps, made by the first law that asks for it."""
    return partial(remembered, golden_case.folder, partial(train_golden, subject, golden_case, golden_training))


TRAINING = ("train", "lora", "head_adapters", "float32")


@contract(source="openpi train.py:137; docs/decisions/0001", needs=TRAINING)
def test_training_losses(
    subject: Subject, golden_case: GoldenCase, golden_training: GoldenTraining, golden_run: Callable
) -> None:
    """With openpi's optimizer, noise and times, the losses of AdamW's steps are openpi's."""
    assert_close(golden_run()["losses"], golden_training.losses, rtol=TRAIN_RTOL)


@contract(source="openpi train.py:164; docs/decisions/0001", needs=TRAINING)
def test_training_gradient_norms(
    subject: Subject, golden_case: GoldenCase, golden_training: GoldenTraining, golden_run: Callable
) -> None:
    """The norm of each step's gradient over all trained parameters, before clipping, is openpi's."""
    assert_close(golden_run()["grad_norms"], golden_training.grad_norms, rtol=TRAIN_RTOL)


@contract(source="openpi train.py:137, pi0_config.py:79", needs=TRAINING)
def test_training_changes_the_same_parameters(
    subject: Subject, golden_case: GoldenCase, golden_training: GoldenTraining, golden_run: Callable
) -> None:
    """AdamW's steps change exactly the parameters that openpi's steps change."""
    params, trained = read_params(golden_case.checkpoint), golden_run()["params"]
    assert_same_paths({path for path in params if (trained[path] != params[path]).any()}, golden_training.changed)


@contract(source="openpi train.py:137; docs/decisions/0001", needs=TRAINING)
def test_training_steps(
    subject: Subject, golden_case: GoldenCase, golden_training: GoldenTraining, golden_run: Callable
) -> None:
    """AdamW's steps end on openpi's values."""
    assert_reproduces(golden_run(), nearby_runs(subject, golden_case, golden_training), golden_training.after)


CONVERTED = read_case(GOLDEN / converted.CASE)


@contract(source="docs/bugs.md#a5, #g1, #g2; openpi #396, #958", needs=("load", "loss", "openpi_pytorch", "float32"))
def test_converted_checkpoint_has_the_loss(subject: Subject) -> None:
    """openpi's LoRA checkpoint, folded and converted to its PyTorch layout, has openpi's loss."""
    case, model = CONVERTED, without_lora(CONVERTED.spec)
    loaded = subject.load(model, {"kind": "openpi_pytorch", "path": str(converted.FOLDED)}, seed=0)
    loss = subject.loss(model, loaded["params"], case.batch, case.loss_noise, case.loss_time, seed=0)
    assert_close(loss, case.loss, rtol=LOSS_RTOL)


@contract(source="docs/bugs.md#a5, #e9; openpi #985", needs=("load", "loss", "peft_adapter", "lora", "float32"))
def test_converted_adapter_has_the_loss(subject: Subject) -> None:
    """openpi's adapters, with alpha != rank and rslora, have openpi's loss as a PEFT adapter on their base."""
    case = CONVERTED
    source = {"kind": "peft", "path": str(converted.BASE), "adapter": str(converted.ADAPTER)}
    loaded = subject.load(case.spec, source, seed=0)
    loss = subject.loss(case.spec, loaded["params"], case.batch, case.loss_noise, case.loss_time, seed=0)
    assert_close(loss, case.loss, rtol=LOSS_RTOL)


@contract(
    source="docs/bugs.md#a5, #g2; openpi #396",
    needs=("fold_checkpoint", "restore", "loss", "openpi", "lora", "float32"),
)
def test_folded_checkpoint_has_the_loss(subject: Subject, tmp_path: Path) -> None:
    """openpi's LoRA checkpoint, folded into a base checkpoint, has openpi's loss."""
    case, model = CONVERTED, without_lora(CONVERTED.spec)
    subject.fold_checkpoint(case.spec, str(case.checkpoint), str(tmp_path / "out"), None)
    params = subject.restore(str(tmp_path / "out" / "params"), None)
    loss = subject.loss(model, params, case.batch, case.loss_noise, case.loss_time, seed=0)
    assert_close(loss, case.loss, rtol=LOSS_RTOL)
