"""What is done to adapters in memory."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.stopwatch import STOPWATCH

_ROUNDS = 5


@pytest.mark.benchmark(timer=STOPWATCH)
def test_lora(measurement: Measurement, benchmark: BenchmarkFixture) -> None:
    """Initialising, merging, folding, extracting, after a first time; and every parameter that comes out."""
    measurement.prepare()
    measurement.warm_up("sample")
    benchmark.pedantic(measurement.sample, rounds=_ROUNDS)
    assert measurement.compare() == []
