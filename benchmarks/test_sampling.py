"""Sampling of actions."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.stopwatch import STOPWATCH


@pytest.mark.benchmark(timer=STOPWATCH)
def test_sampling(measurement: Measurement, benchmark: BenchmarkFixture) -> None:
    """Actions of one observation, the same each time."""
    measurement.prepare()
    measurement.compile()
    benchmark.pedantic(measurement.step, rounds=measurement.cell.size.steps)
    losses = measurement.losses()
    assert None not in losses
    assert len(set(losses)) == 1
    measurement.compile_cached()
