"""Benchmarks of loading a checkpoint."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.stopwatch import STOPWATCH


@pytest.mark.benchmark(timer=STOPWATCH)
def test_load(measurement: Measurement, benchmark: BenchmarkFixture) -> None:
    """Time the first load of a process, then digest every loaded parameter."""
    measurement.prepare()
    benchmark.pedantic(measurement.sample, rounds=1)
    assert measurement.compare() == []
