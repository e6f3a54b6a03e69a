"""Medians, ranges and ratios of samples; operations per second and the ceilings they are compared with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.results import summaries
from benchmarks.results.summaries import Ratio, shows_a_difference
from tests.reports import toy_benchmarks as toy

# Samples of three processes: the median is 1, and processes differ more than the samples of one.
OURS = [[0.98, 0.99, 0.97, 0.98], [1.0, 1.0, 1.01, 1.0], [1.02, 1.04, 1.03, 1.02]]
seconds = st.floats(1e-3, 1e3)


def times(factor: float) -> list[list[float]]:
    return [[factor * value for value in process] for process in OURS]


def test_few_samples_have_no_percentiles() -> None:
    """The 5th percentile of nineteen samples is nearly the smallest, so it is not called a percentile."""
    assert summaries.spread([float(n) for n in range(19)]) == (0, 18, "min..max")
    assert summaries.spread([float(n) for n in range(20)]).kind == "p5..p95"
    low, high, kind = summaries.spread([float(n) for n in range(101)])
    assert (round(low), round(high), kind) == (5, 95, "p5..p95")


def test_a_ratio_is_of_medians() -> None:
    assert summaries.ratio(times(1.0), times(2.9)).value == pytest.approx(2.9)


def test_the_interval_holds_the_ratio() -> None:
    """The interval is wider than the differences between samples, and narrower than those between the extremes."""
    low, value, high = summaries.ratio(times(1.0), times(2.9))
    assert 2.9 * 0.97 / 1.04 <= low < value < high <= 2.9 * 1.04 / 0.97


def test_processes_are_resampled_not_samples_alone() -> None:
    """Twelve samples of three processes say less than twelve processes, so their interval is wider."""
    apart = [[value] for process in OURS for value in process]
    alike = [[value] * 4 for value in (0.9, 1.0, 1.1)]
    widths = [high - low for low, _, high in (summaries.ratio(alike, alike), summaries.ratio(apart, apart))]
    assert widths[0] > 2 * widths[1]


def test_a_ratio_is_the_same_every_time() -> None:
    assert summaries.ratio(OURS, times(2.0)) == summaries.ratio(OURS, times(2.0))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_true_ratios_are_in_their_intervals(factor: float) -> None:
    """The interval contains the true ratio in at least 85 of a hundred pairs of runs with ten processes."""
    random = np.random.default_rng(0)

    def run(scale: float) -> list[list[float]]:
        return [[scale * value] for value in random.lognormal(0, 0.1, 10)]

    intervals = [summaries.ratio(run(1.0), run(factor)) for _ in range(100)]
    assert sum(low <= factor <= high for low, _, high in intervals) >= 85


@given(ours=st.lists(st.lists(seconds, min_size=1, max_size=4), min_size=1, max_size=4), factor=st.floats(0.1, 10))
def test_processes_may_have_different_numbers_of_samples(ours: list[list[float]], factor: float) -> None:
    """A process with fewer samples gets none made up, and scaled times have their factor inside the interval."""
    low, value, high = summaries.ratio(ours, [[factor * x for x in group] for group in ours])
    flat = [x for group in ours for x in group]
    least, most = factor * min(flat) / max(flat), factor * max(flat) / min(flat)
    assert value == pytest.approx(factor)
    assert least * (1 - 1e-9) <= low <= high <= most * (1 + 1e-9)


def test_samples_are_grouped_by_process() -> None:
    cell = toy.load(samples=[s for pair in zip(*[toy.samples(1.0)[n::4] for n in (0, 1)], strict=True) for s in pair])
    assert summaries.by_process(cell) == [[1.0, 1.02]] * 3


def test_operations_are_of_all_examples() -> None:
    """Two examples of 25 GFLOP each take 1.01 s, the median of the toy's factors."""
    step = toy.step()
    assert summaries.operations_per_second(step) == pytest.approx(50e9 / 1.01)
    assert summaries.operations_per_second(step, "hardware_flops_per_sample") == pytest.approx(60e9 / 1.01)


@pytest.mark.parametrize("lacking", ["flops_per_sample", "batch"])
def test_uncounted_operations_are_unknown(lacking: str) -> None:
    step = toy.step()
    del step["values"][lacking]
    assert summaries.operations_per_second(step) is None
    assert summaries.operations_per_second(toy.step(samples=[])) is None


def test_the_ceiling_is_of_dtype_and_devices() -> None:
    """The cell's own dtype counts, on every device that it used; a dtype that was not measured has no ceiling."""
    result = toy.result()

    def ceiling(**options: object) -> float | None:
        return summaries.ceiling(toy.step(options=options), result)

    accelerated = result | {"environment": toy.environment({"kind": "GPU", "count": 4, "memory_bytes": None})}
    step = toy.step(options={"dtype": "bfloat16", "devices": 4})
    assert summaries.ceiling(step, accelerated) == pytest.approx(0.2e12)

    assert ceiling(dtype="float32") == pytest.approx(0.1e12)
    assert ceiling(dtype="bfloat16", devices=4) == pytest.approx(0.05e12), "they are one CPU"
    assert ceiling(dtype="float16") is ceiling() is None
    assert summaries.ceiling(toy.step(), toy.result(ceilings=toy.ceilings(matmul_tflops=None))) is None


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.61, 2.49, False), (0.97, 1.04, True), (1.02, 1.4, True), (0.4, 0.7, True), (0.95, 1.06, False)],
)
def test_a_wide_interval_with_one_in_it_shows_no_difference(low: float, high: float, shown: bool) -> None:
    """A ratio is claimed if its interval is narrower than a tenth, or on one side of 1."""
    assert shows_a_difference(Ratio(low, (low + high) / 2, high)) is shown
