"""Loading a checkpoint for what is done with it."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.stopwatch import STOPWATCH


@pytest.mark.benchmark(timer=STOPWATCH)
def test_load(measurement: Measurement, benchmark: BenchmarkFixture) -> None:
    """The first load of a process, and every parameter of it."""
    measurement.prepare()
    benchmark.pedantic(measurement.sample, rounds=1)
    assert measurement.compare() == []
