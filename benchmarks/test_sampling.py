"""Sampling of actions."""

import math

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measurement import Measurement
from benchmarks.stopwatch import STOPWATCH


@pytest.mark.benchmark(timer=STOPWATCH)
def test_sampling(measurement: Measurement, benchmark: BenchmarkFixture) -> None:
    """Actions of one observation, the same each time."""
    measurement.prepare()
    measurement.compile()
    measurement.warm_up("step")
    benchmark.pedantic(measurement.step, rounds=measurement.cell.size.steps)
    losses = measurement.losses()
    assert all(map(math.isfinite, losses))
    assert len(set(losses)) == 1
