"""Steps over several devices compared with the same step on one."""

from typing import Any

import pytest

from benchmarks.results.scaling import scaling
from tests.reports import toy_benchmarks as toy
from tests.reports.toy_benchmarks import Json


def step(devices: int, seconds: float, *, batch: int | None = None, spread: bool = False, **changes: Any) -> Json:
    """Return a step over devices, with two samples for each by default."""
    batch = batch or 2 * devices
    variant = f"lora/batch-{batch}" + (f"/devices-{devices}-{'fsdp' if spread else 'data'}" if devices > 1 else "")
    options = {"dtype": "float32", "lora": True, "batch": batch, "devices": devices, "spread": spread}
    fields = {"id": f"step/train_step/small/{variant}", "options": options, "samples": toy.samples(seconds)}
    return toy.step(**{**fields, **changes})


def rows(cells: list[Json]) -> list[Any]:
    """Return the rows as plain tuples, which compare with approximate values."""
    return list(map(tuple, scaling(cells)))


def test_several_devices_are_compared_with_one_of_as_many_samples() -> None:
    """Four devices that take as long as one have efficiency 1; eight that take twice as long have one half."""
    cells = [step(1, 1.0), step(1, 9.0, batch=8), step(4, 1.0), step(8, 2.0, spread=True)]
    rate = 2 / 1.01
    assert rows(cells) == [
        ("train_step/lora", 1, "alone", pytest.approx(rate), 1.0),
        ("train_step/lora", 4, "data", pytest.approx(4 * rate), pytest.approx(1.0)),
        ("train_step/lora", 8, "fsdp", pytest.approx(4 * rate), pytest.approx(0.5)),
    ]


def test_one_device_alone_is_no_scaling() -> None:
    assert scaling([step(1, 1.0), step(1, 2.0, batch=8)]) == []


@pytest.mark.parametrize(
    "other",
    [
        step(1, 1.0, batch=4),
        step(1, 1.0, operation="train_step_kept"),
        step(1, 1.0, options=step(1, 1.0)["options"] | {"lora": False}),
        step(1, 1.0, options=step(1, 1.0)["options"] | {"dtype": "bfloat16"}),
    ],
    ids=["samples", "operation", "adapters", "dtype"],
)
def test_another_step_gives_no_efficiency(other: Json) -> None:
    """The rate is given, without an efficiency."""
    assert rows([other, step(4, 1.0)]) == [("train_step/lora", 4, "data", pytest.approx(8 / 1.01), None)]
