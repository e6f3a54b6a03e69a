"""Writing a checkpoint."""

from pathlib import Path

from suite.asserts import assert_same_bits, refused
from suite.cases import digests
from suite.contracts.conftest import Checkpoint
from suite.registry import contract
from suite.subjects.protocol import Subject


@contract(source="openpi checkpoints.py:75", needs=("save", "restore"))
def test_and_restore_keep_every_bit(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """What is saved is restored bit for bit, adapters included."""
    subject.save(lora_checkpoint.spec, lora_checkpoint.params, str(tmp_path / "params"))
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), lora_checkpoint.params)


@contract(source="bugs E4", needs=("save",))
def test_never_overwrites(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Saving where a checkpoint lies is refused by name and leaves its files as they were."""
    path = tmp_path / "params"
    subject.save(base_checkpoint.spec, base_checkpoint.params, str(path))
    before = digests(path)
    with refused(str(path)):
        subject.save(base_checkpoint.spec, base_checkpoint.params, str(path))
    assert digests(path) == before
