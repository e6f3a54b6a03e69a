"""Memory use of a load: its result plus a bounded window, never everything twice."""

from typing import Any

import pytest

from fixtures.specs import with_lora
from suite.contracts.checkpoints import Checkpoint
from suite.contracts.process_limits import WINDOW
from suite.session.registry import contract
from suite.subjects.process.elsewhere import Elsewhere
from suite.subjects.protocol import Subject
from suite.writing.cases import from_checkpoint, training_options


def growth(process: Elsewhere, *call: Any) -> int:
    """Return how many bytes a process grows by during its second run of a call; the first run compiles."""
    process.memory_of(*call)
    return int(process.memory_of(*call))


def assert_within(grown: float, allowed: float) -> None:
    """Assert that a process grew by no more than the allowed number of bytes; a failure says both in MB."""
    __tracebackhide__ = True
    assert grown <= allowed, f"the process grew by {grown / 1e6:.0f} MB, expected at most {allowed / 1e6:.0f} MB"


@contract(source="openpi 0fffc72; docs/bugs.md#c13, #c14", needs=("restore",))
@pytest.mark.parametrize(("dtype", "share"), [(None, 1.0), ("bfloat16", 0.5)], ids=["as_stored", "bfloat16"])
def test_restores_within_its_budget(
    subject: Subject, wide_checkpoint: Checkpoint, one_device: Elsewhere, dtype: str | None, share: float
) -> None:
    """Restoring takes the memory of its result plus a bounded window: arrays of the right dtype are not copied, and
    cast ones are not kept in their stored dtype."""
    grown = growth(one_device, "restore", wide_checkpoint.path, dtype)
    assert_within(grown, share * wide_checkpoint.num_bytes + WINDOW)


@contract(source="openpi 0fffc72, weight_loaders.py:58; docs/bugs.md#c13, #p6", needs=("load", "openpi", "lora"))
def test_loads_within_its_budget(subject: Subject, wide_checkpoint: Checkpoint, one_device: Elsewhere) -> None:
    """Loading a base checkpoint into a LoRA model takes the memory of the model's parameters plus a bounded window."""
    spec, source = with_lora(wide_checkpoint.spec), from_checkpoint(wide_checkpoint.path)
    grown = growth(one_device, "load", spec, source, 0)
    assert_within(grown, wide_checkpoint.num_bytes + WINDOW)


@contract(source="openpi train.py:106, train.py:122; docs/bugs.md#c14", needs=("begin", "lora"))
def test_begins_within_its_budget(subject: Subject, wide_checkpoint: Checkpoint, one_device: Elsewhere) -> None:
    """The first state of a LoRA training run with bfloat16 frozen parameters takes their memory plus a bounded window,
    even from a float32 checkpoint."""
    spec, source = with_lora(wide_checkpoint.spec), from_checkpoint(wide_checkpoint.path)
    grown = growth(one_device, "begin", spec, source, training_options(frozen_dtype="bfloat16"))
    # Almost all parameters are frozen.
    assert_within(grown, 0.5 * wide_checkpoint.num_bytes + WINDOW)
