"""Benchmarks of fine-tuning steps."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.stopwatch import STOPWATCH

# Compiling makes the first call.
_WARM_UP = 2


@pytest.mark.benchmark(timer=STOPWATCH)
def test_step(measurement: Measurement, benchmark: BenchmarkFixture) -> None:
    """Time training steps on one fixed batch; the loss falls as the model learns it."""
    measurement.prepare()
    measurement.compile()
    for _ in range(_WARM_UP):
        measurement.warm_up("step")
    benchmark.pedantic(measurement.step, rounds=measurement.cell.size.steps)
    losses = measurement.losses()
    assert None not in losses
    assert len(set(losses)) > 1
    measurement.compile_cached()
