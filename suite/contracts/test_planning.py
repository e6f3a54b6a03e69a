"""Planning: what a training needs is computed before anything is loaded, and moves the way the training would."""

from typing import Any

import pytest

from fixtures import specs
from fixtures.specs import LoraPlacement
from suite.session.registry import contract
from suite.subjects.process.elsewhere import Elsewhere
from suite.subjects.protocol import Subject

# An even share, and what is on every device: vectors, and arrays with no axis to split.
UNEVEN = 1.1
ADAPTED: tuple[LoraPlacement, ...] = ("both", "paligemma", "action_expert")


@contract(source="arXiv:2106.09685, section 4.2; openpi #317", needs=("needs", "lora"))
@pytest.mark.parametrize("lora", ADAPTED)
def test_adapters_take_less_optimizer_memory(subject: Subject, lora: LoraPlacement) -> None:
    """A model with adapters needs less memory for its optimizer than the same model without."""
    adapted, bare = (subject.needs(specs.tiny(lora=placed), _options()) for placed in (lora, "none"))
    assert adapted["optimizer_bytes"] < bare["optimizer_bytes"]


@contract(source="arXiv:1910.02054; openpi sharding.py:48, #667", needs=("needs", "sharding"))
def test_more_devices_hold_less_each(subject: Subject, eight_devices: Elsewhere) -> None:
    """Spread over twice as many devices, a training needs about half the memory on each."""
    held = [eight_devices.needs(specs.wide(), _options(devices=number))["device_bytes"] for number in (1, 2, 4, 8)]
    assert all(held[0] <= number * each <= UNEVEN * held[0] for number, each in zip((1, 2, 4, 8), held, strict=True))


@contract(source="openpi #744, #451", needs=("needs", "lora"))
@pytest.mark.parametrize("lora", ["none", "both"])
def test_freezing_more_needs_less(subject: Subject, lora: LoraPlacement) -> None:
    """With its image encoder frozen too, a training needs less memory, with adapters and without."""
    frozen, trained = (subject.needs(specs.tiny(lora=lora), _options(freeze_vision=freeze)) for freeze in (True, False))
    assert frozen["optimizer_bytes"] < trained["optimizer_bytes"]
    assert frozen["device_bytes"] < trained["device_bytes"]


def _options(*, devices: int = 1, freeze_vision: bool = False) -> dict[str, Any]:
    return {"devices": devices, "freeze_vision": freeze_vision}
