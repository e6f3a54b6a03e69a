"""Multiple devices: parameters go directly to their shards, no device holds everything, and the numbers agree."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from suite.contracts.checkpoints import Checkpoint
from suite.contracts.joined_processes import in_all, joined
from suite.contracts.process_limits import WINDOW
from suite.contracts.training_runs import LORA, Runs
from suite.session.registry import contract
from suite.subjects.process.elsewhere import Elsewhere
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_same_bits
from suite.writing.cases import from_checkpoint, training_options
from suite.writing.remembered import Remembered

EVERYTHING = {"shard_above": 0}
# How much more than its part a device may hold: vectors, and arrays with no axis to split, are on every device.
UNEVEN = 1.1
# For sums rounded in another order, after three steps.
ROUNDING = 1e-4


@contract(source="openpi model.py:281, sharding.py:48; docs/bugs.md#c15", needs=("restore_sharded",))
def test_restores_in_parts(subject: Subject, wide_checkpoint: Checkpoint, eight_devices: Elsewhere) -> None:
    """Restoring onto eight devices keeps every bit, and each device holds an eighth of the checkpoint."""
    restored = eight_devices.restore_sharded(wide_checkpoint.path, 0)
    assert_same_bits(restored["params"], wide_checkpoint.params)
    part = wide_checkpoint.num_bytes / 8
    assert len(restored["device_bytes"]) == 8
    assert all(part <= held + 1 and held <= UNEVEN * part for held in restored["device_bytes"])


@contract(source="openpi train.py:123; docs/bugs.md#c15", needs=("restore_sharded",))
def test_restoring_gives_no_device_everything(
    subject: Subject, wide_checkpoint: Checkpoint, eight_devices: Elsewhere
) -> None:
    """Reading a checkpoint onto eight devices takes memory for about its own size, not for one copy per device."""
    grown = eight_devices.memory_of("restore_sharded", wide_checkpoint.path, 0)
    # The result is also returned on the host, which takes the same amount again.
    assert grown <= 2 * wide_checkpoint.num_bytes + WINDOW


@contract(source="openpi train.py:123; docs/bugs.md#c15", needs=("begin", "sharding"))
def test_begins_in_parts(subject: Subject, wide_checkpoint: Checkpoint, eight_devices: Elsewhere) -> None:
    """On eight devices, the first state of a training run is sharded from the start, including the optimizer state."""
    source, options = from_checkpoint(wide_checkpoint.path), training_options(**EVERYTHING)
    held = eight_devices.begin(wide_checkpoint.spec, source, options)["device_bytes"]
    # Parameters and two moments each.
    part = 3 * wide_checkpoint.num_bytes / 8
    assert all(part <= device_bytes <= UNEVEN * part for device_bytes in held)


@contract(source="openpi train.py:137, sharding.py:48", needs=("train", "sharding", "float32", "lora"))
def test_steps_equal_those_of_one_device(subject: Subject, runs: Runs, eight_devices: Elsewhere) -> None:
    """Steps on eight devices have the same losses and gradients as steps on one, up to rounding."""
    alone = runs(LORA, 3)
    spread = eight_devices.train(LORA.spec, LORA.params, [LORA.batch] * 3, LORA.options(3) | EVERYTHING)
    for name in ("losses", "grad_norms"):
        assert_close(spread[name], alone[name], rtol=ROUNDING, name=name)


@pytest.fixture
def on_eight(
    subject: Subject, remembered: Remembered, runs: Runs, eight_devices: Elsewhere, tmp_path: Path
) -> Callable[[], dict[str, Any]]:
    """Resume on eight devices a run that one device saved, for the first law that asks for it."""

    def resume() -> dict[str, Any]:
        runs.saved(LORA, tmp_path)
        options = LORA.options(1) | EVERYTHING
        result: dict[str, Any] = eight_devices.resume(LORA.spec, [LORA.batch], options, folder=str(tmp_path))
        return result

    return partial(remembered, "resumed on eight devices", resume)


SPREAD = ("train", "resume", "sharding", "lora")


@contract(source="openpi train.py:119, train.py:240; docs/bugs.md#e1", needs=SPREAD)
def test_resumes_on_more_devices(subject: Subject, runs: Runs, on_eight: Callable[[], dict[str, Any]]) -> None:
    """A run saved on one device resumes on eight, bit for bit."""
    assert_same_bits(on_eight()["params"], runs(LORA, 1)["params"])


@contract(source="openpi train.py:119, train.py:240; docs/bugs.md#e1", needs=(*SPREAD, "moving_average"))
def test_resumes_its_average_on_more_devices(
    subject: Subject, runs: Runs, on_eight: Callable[[], dict[str, Any]]
) -> None:
    """The moving average of a run saved on one device resumes on eight, bit for bit."""
    assert_same_bits(on_eight()["averaged"], runs(LORA, 1)["averaged"])


@contract(source="openpi sharding.py:48; docs/bugs.md#c15, #e1", needs=SPREAD)
def test_resumes_in_parts(subject: Subject, runs: Runs, on_eight: Callable[[], dict[str, Any]]) -> None:
    """A run saved on one device is sharded when it resumes on eight: none holds more than a third of the state."""
    assert max(on_eight()["device_bytes"]) < 0.35 * sum(runs(LORA, 1)["device_bytes"])


@pytest.fixture
def on_one(
    subject: Subject, remembered: Remembered, runs: Runs, eight_devices: Elsewhere, tmp_path: Path
) -> Callable[[], dict[str, Any]]:
    """Resume on one device a run that eight saved before its first step, for the first law that asks for it."""

    def resume() -> dict[str, Any]:
        eight_devices.train(LORA.spec, LORA.params, [], LORA.options(0) | EVERYTHING, folder=str(tmp_path))
        return runs.resumed(LORA, tmp_path, 3)

    return partial(remembered, "resumed on one device", resume)


@contract(source="openpi train.py:119, train.py:240; docs/bugs.md#e1", needs=SPREAD)
def test_resumes_on_fewer_devices(subject: Subject, runs: Runs, on_one: Callable[[], dict[str, Any]]) -> None:
    """A run saved on eight devices resumes on one and continues as if it had started there."""
    assert_same_bits(on_one()["params"], runs(LORA, 3)["params"])


@contract(source="openpi train.py:119, train.py:240; docs/bugs.md#e1", needs=(*SPREAD, "moving_average"))
def test_resumes_its_average_on_fewer_devices(
    subject: Subject, runs: Runs, on_one: Callable[[], dict[str, Any]]
) -> None:
    """The moving average of a run saved on eight devices resumes on one and continues as if it had started there."""
    assert_same_bits(on_one()["averaged"], runs(LORA, 3)["averaged"])


@contract(source="openpi train.py:119, train.py:240; docs/bugs.md#e1", needs=SPREAD)
def test_holds_everything_on_one_device(subject: Subject, runs: Runs, on_one: Callable[[], dict[str, Any]]) -> None:
    """A run saved on eight devices holds on one device what a run that started there holds."""
    assert on_one()["device_bytes"] == runs(LORA, 3)["device_bytes"]


@contract(
    source="openpi README.md:24, which has no multi-node training",
    needs=("join", "train", "resume", "restore_sharded", "sharding", "float32", "lora"),
)
def test_two_processes_train_together(
    subject: Subject, lora_checkpoint: Checkpoint, runs: Runs, eight_devices: Elsewhere, tmp_path: Path
) -> None:
    """Two processes restore a checkpoint, each its part, resume on two devices a run saved on eight, and take a step
    with one sample each that has the loss and gradient of a single device."""
    spec, params, options = LORA.spec, LORA.params, LORA.options(1)
    eight_devices.train(spec, params, [], options | EVERYTHING, folder=str(tmp_path))
    alone = runs(LORA, 1)
    with joined(subject, 2) as pair:
        restored = in_all(pair, "restore_sharded", lora_checkpoint.path, 0)
        stepped = in_all(pair, "resume", spec, [LORA.batch], options | EVERYTHING, folder=str(tmp_path))
    for part, step in zip(restored, stepped, strict=True):
        assert_same_bits(part["params"], params)
        assert len(step["device_bytes"]) == 2
        assert max(step["device_bytes"]) < 0.6 * sum(alone["device_bytes"])
        for name in ("losses", "grad_norms"):
            assert_close(step[name], alone[name], rtol=ROUNDING, name=name)
