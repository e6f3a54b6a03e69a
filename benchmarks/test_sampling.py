"""Benchmarks of sampling actions."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.stopwatch import STOPWATCH


@pytest.mark.benchmark(timer=STOPWATCH)
def test_sampling(measurement: Measurement, benchmark: BenchmarkFixture) -> None:
    """Time sampling the actions, or the tokens of the actions, for one fixed observation."""
    measurement.prepare()
    measurement.compile()
    benchmark.pedantic(measurement.step, rounds=measurement.cell.size.steps)
    losses = measurement.losses()
    assert None not in losses
    assert len(set(losses)) == 1
    measurement.compile_cached()
