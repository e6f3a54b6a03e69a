"""Fine-tuning: what changes, what does not, and that an interruption does not matter."""

from pathlib import Path

import ml_dtypes

from fixtures.params import Params
from fixtures.specs import ModelSpec
from suite.asserts import assert_same_bits, assert_same_paths
from suite.cases import LEAN, from_checkpoint, is_adapter, training_options
from suite.contracts.conftest import Checkpoint
from suite.registry import contract
from suite.subjects.protocol import Subject


@contract(
    source="openpi train.py:106, train.py:152; bugs B3",
    needs=("load", "train", "trainable", "lora"),
)
def test_changes_only_trainables(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec, batch: Params
) -> None:
    """Steps of a LoRA model change all adapters and nothing but trainable parameters; frozen ones are rounded once, to
    the bfloat16 that is asked for, and never touched again."""
    params = subject.load(lora_spec, from_checkpoint(base_checkpoint.path), seed=0)["params"]
    trained = subject.train(lora_spec, params, [batch] * 3, training_options(**LEAN))["params"]
    trainable = set(subject.trainable(lora_spec))
    frozen = {path: x.astype(ml_dtypes.bfloat16) for path, x in params.items() if path not in trainable}
    assert_same_bits({path: trained[path] for path in frozen}, frozen)
    changed = {path for path in trainable if (trained[path] != params[path]).any()}
    assert changed >= {path for path in params if is_adapter(path)}


@contract(source="openpi train.py:169; bugs B4", needs=("train", "trainable", "moving_average", "lora"))
def test_moving_average_leaves_frozen_alone(subject: Subject, lora_checkpoint: Checkpoint, batch: Params) -> None:
    """A moving average of the parameters has frozen ones bit for bit, even in bfloat16, and follows trained ones."""
    options = training_options(**LEAN)
    result = subject.train(lora_checkpoint.spec, lora_checkpoint.params, [batch] * 3, options)
    trained, averaged, trainable = (
        result["params"],
        result["averaged"],
        set(subject.trainable(lora_checkpoint.spec)),
    )
    frozen = {path: array for path, array in trained.items() if path not in trainable}
    assert_same_bits({path: averaged[path] for path in frozen}, frozen)
    lagging = {path for path in trained if (averaged[path] != trained[path]).any()}
    assert_same_paths(lagging, {p for p in trainable if (trained[p] != lora_checkpoint.params[p]).any()})


@contract(
    source="openpi checkpoints.py:101; bugs E1, P5",
    needs=("train", "resume", "moving_average", "lora"),
)
def test_resumed_equals_uninterrupted(
    subject: Subject, lora_checkpoint: Checkpoint, batch: Params, tmp_path: Path
) -> None:
    """Steps that are saved and resumed in between end on the same bits as uninterrupted ones."""
    spec, params, options = lora_checkpoint.spec, lora_checkpoint.params, training_options(**LEAN)
    through = subject.train(spec, params, [batch] * 3, options)
    resumed = subject.resume(spec, params, [batch] * 3, options, interrupt_after=1, folder=str(tmp_path / "run"))
    assert resumed["losses"] == through["losses"]
    for which in ("params", "averaged"):
        assert_same_bits(resumed[which], through[which])
