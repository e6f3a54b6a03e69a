"""Fine-tuning steps."""

import math

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measurement import Measurement
from benchmarks.stopwatch import STOPWATCH

_WARM_UP = 3


@pytest.mark.benchmark(timer=STOPWATCH)
def test_step(measurement: Measurement, benchmark: BenchmarkFixture) -> None:
    """Steps on one batch, which is learned."""
    measurement.prepare()
    measurement.compile()
    for _ in range(_WARM_UP):
        measurement.warm_up("step")
    benchmark.pedantic(measurement.step, rounds=measurement.cell.size.steps)
    losses = measurement.losses()
    assert all(map(math.isfinite, losses))
    assert len(set(losses)) > 1
