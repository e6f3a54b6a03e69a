"""Multiple devices: parameters go directly to their shards, no device holds everything, and the numbers agree."""

from pathlib import Path

from fixtures.params import Params
from suite.contracts.checkpoints import Checkpoint
from suite.contracts.joined_processes import in_all, joined
from suite.contracts.process_limits import WINDOW
from suite.session.registry import contract
from suite.subjects.process.elsewhere import Elsewhere
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_same_bits
from suite.writing.cases import LEAN, from_checkpoint, training_options

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
def test_steps_equal_those_of_one_device(
    subject: Subject, lora_checkpoint: Checkpoint, batch: Params, eight_devices: Elsewhere
) -> None:
    """Steps on eight devices have the same losses and gradients as steps on one, up to rounding."""
    spec, params, batches = lora_checkpoint.spec, lora_checkpoint.params, [batch] * 3
    alone = subject.train(spec, params, batches, training_options(**LEAN))
    spread = eight_devices.train(spec, params, batches, training_options(**LEAN, **EVERYTHING))
    for name in ("losses", "grad_norms"):
        assert_close(spread[name], alone[name], rtol=ROUNDING, name=name)


@contract(source="openpi train.py:119, train.py:240; docs/bugs.md#e1", needs=("train", "resume", "sharding", "lora"))
def test_resumes_on_more_devices(
    subject: Subject, lora_checkpoint: Checkpoint, batch: Params, eight_devices: Elsewhere, tmp_path: Path
) -> None:
    """A run saved on one device resumes on eight, bit for bit, sharded as requested."""
    spec, options = lora_checkpoint.spec, training_options(**LEAN)
    saved = subject.train(spec, lora_checkpoint.params, [batch], options, folder=str(tmp_path))
    spread = eight_devices.resume(spec, [batch], options | EVERYTHING, folder=str(tmp_path))
    for which in ("params", "averaged"):
        assert_same_bits(spread[which], saved[which])
    assert max(spread["device_bytes"]) < 0.35 * sum(saved["device_bytes"])


@contract(source="openpi train.py:119, train.py:240; docs/bugs.md#e1", needs=("train", "resume", "sharding", "lora"))
def test_resumes_on_fewer_devices(
    subject: Subject, lora_checkpoint: Checkpoint, batch: Params, eight_devices: Elsewhere, tmp_path: Path
) -> None:
    """A run saved on eight devices resumes on one and continues as if it had started there."""
    spec, params, options = lora_checkpoint.spec, lora_checkpoint.params, training_options(**LEAN)
    eight_devices.train(spec, params, [], options | EVERYTHING, folder=str(tmp_path))
    resumed = subject.resume(spec, [batch] * 3, options, folder=str(tmp_path))
    alone = subject.train(spec, params, [batch] * 3, options)
    for which in ("params", "averaged"):
        assert_same_bits(resumed[which], alone[which])
    assert resumed["device_bytes"] == alone["device_bytes"]


@contract(
    source="openpi README.md:24, which has no multi-node training",
    needs=("join", "train", "resume", "restore_sharded", "sharding", "float32", "lora"),
)
def test_two_processes_train_together(
    subject: Subject, lora_checkpoint: Checkpoint, batch: Params, eight_devices: Elsewhere, tmp_path: Path
) -> None:
    """Two processes restore a checkpoint, each its part, resume on two devices a run saved on eight, and take a step
    with one sample each that has the loss and gradient of a single device."""
    spec, params, options = lora_checkpoint.spec, lora_checkpoint.params, training_options(**LEAN)
    eight_devices.train(spec, params, [], options | EVERYTHING, folder=str(tmp_path))
    alone = subject.train(spec, params, [batch], options)
    with joined(subject, 2) as pair:
        restored = in_all(pair, "restore_sharded", lora_checkpoint.path, 0)
        stepped = in_all(pair, "resume", spec, [batch], options | EVERYTHING, folder=str(tmp_path))
    for part, step in zip(restored, stepped, strict=True):
        assert_same_bits(part["params"], params)
        assert len(step["device_bytes"]) == 2
        assert max(step["device_bytes"]) < 0.6 * sum(alone["device_bytes"])
        for name in ("losses", "grad_norms"):
            assert_close(step[name], alone[name], rtol=ROUNDING, name=name)
