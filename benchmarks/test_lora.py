"""Benchmarks of adapter operations in memory."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.stopwatch import STOPWATCH

_ROUNDS = 5


@pytest.mark.benchmark(timer=STOPWATCH)
def test_lora(measurement: Measurement, benchmark: BenchmarkFixture) -> None:
    """Time initializing, merging, folding or extracting after a warm-up call, then digest every resulting parameter."""
    measurement.prepare()
    measurement.warm_up("sample")
    benchmark.pedantic(measurement.sample, rounds=_ROUNDS)
    assert measurement.compare() == []
