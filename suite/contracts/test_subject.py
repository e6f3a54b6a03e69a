"""How a subject describes itself, and that it does not change its arguments."""

import copy
import json
from pathlib import Path

import pytest

from suite.contracts.checkpoints import Checkpoint
from suite.session.registry import contract
from suite.subjects.capabilities import OPERATIONS
from suite.subjects.protocol import Subject, Unsupported
from suite.writing.asserts import assert_same_bits


@contract(source="suite/subjects/protocol.py; pandas tests/extension/base: an absent feature fails loudly", needs=())
def test_absence_is_loud(subject: Subject) -> None:
    """Calling an operation raises Unsupported if, and only if, the subject does not declare it."""
    for operation in OPERATIONS.keys() - subject.capabilities:
        with pytest.raises(Unsupported):
            getattr(subject, operation)()
    for operation in OPERATIONS.keys() & subject.capabilities:
        # Called without arguments, an existing operation fails like any function.
        with pytest.raises(Exception, match=r".") as failed:
            getattr(subject, operation)()
        assert not isinstance(failed.value, Unsupported), f"{operation} is declared but missing"


@contract(source="suite/subjects/protocol.py; a result without versions cannot be repeated", needs=())
def test_describes_itself(subject: Subject) -> None:
    """A subject reports its name, the versions of its packages and its device as plain data."""
    description = subject.describe()
    assert json.loads(json.dumps(description)) == description
    assert description["name"] == subject.name
    assert description["device"]
    assert all(isinstance(version, str) and version for version in description["packages"].values())
    assert description["packages"]


@contract(source="docs/bugs.md#h6; openpi train_pytorch.py:405", needs=("save", "lora"))
def test_arguments_are_left_alone(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Saving changes neither the model's spec nor the given parameters."""
    spec = copy.deepcopy(lora_checkpoint.spec)
    params = {path: array.copy() for path, array in lora_checkpoint.params.items()}
    subject.save(spec, params, str(tmp_path / "params"))
    assert spec == lora_checkpoint.spec
    assert_same_bits(params, lora_checkpoint.params)
