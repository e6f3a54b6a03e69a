"""Fine-tuning steps."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.stopwatch import STOPWATCH

# The first call is made when it is compiled.
_WARM_UP = 2


@pytest.mark.benchmark(timer=STOPWATCH)
def test_step(measurement: Measurement, benchmark: BenchmarkFixture) -> None:
    """Steps on one batch, which is learned."""
    measurement.prepare()
    measurement.compile()
    for _ in range(_WARM_UP):
        measurement.warm_up("step")
    benchmark.pedantic(measurement.step, rounds=measurement.cell.size.steps)
    losses = measurement.losses()
    assert None not in losses
    assert len(set(losses)) > 1
    measurement.compile_cached()
