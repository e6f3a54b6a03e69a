"""Pairs of made-up samples: when the gate stops, what it measures again, and what it decides."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.cells.cells import Cell
from benchmarks.gate.findings import Finding
from benchmarks.gate.gate_cells import cells
from benchmarks.gate.pairing import BATCH, CONFIRMING, MOST, Pairs, Sample

ONE, TWO = cells()[:2]
# From the number of a pair to the factor by which the candidate is slower in it.
Slower = Callable[[int], float]


class MadeUp:
    """Make samples with little noise; `slower` has the factor of the candidate for each metric."""

    def __init__(self, noise: float = 0.01, *, has_peaks: bool = True, **slower: Slower) -> None:
        self._noise, self._has_peaks, self._slower = np.random.default_rng(0), has_peaks, slower
        self._scale = noise
        self.calls: list[tuple[int, list[str]]] = []

    def pair(self, wanted: Sequence[Cell], first: int) -> tuple[dict[str, Sample], dict[str, Sample]]:
        self.calls.append((first, [cell.id for cell in wanted]))
        old, new = ({cell.id: self.sample(cell, side) for cell in wanted} for side in (0, 1))
        return old, new

    def sample(self, cell: Cell, side: int) -> Sample:
        pair = len(self.calls) - 1

        def of(metric: str, value: float) -> float:
            more = self._slower.get(metric, lambda _: 1.0)(pair) if side else 1.0
            return value * more * float(np.exp(self._scale * self._noise.standard_normal()))

        peak = of("peak", 50e6) if self._has_peaks else None
        return {"cpu_s": of("cpu", 0.1), "wall_s": of("wall", 0.1), "host_peak_bytes": peak}


def decided(made_up: MadeUp, *wanted: Cell, until: float = float("inf")) -> dict[str, Finding]:
    """Return the findings of the first of the cells, by metric."""
    findings = Pairs(made_up, until=until).decide(wanted or [ONE])
    return {finding.metric: finding for finding in findings if finding.cell == ONE.id}


def test_the_same_is_the_same_after_one_batch() -> None:
    made_up = MadeUp()
    findings = decided(made_up)
    assert {finding.verdict for finding in findings.values()} == {"same"}
    assert len(made_up.calls) == BATCH
    assert findings["cpu_s"].pairs == BATCH


@pytest.mark.parametrize(("metric", "name"), [("cpu", "cpu_s"), ("peak", "host_peak_bytes"), ("wall", "wall_s")])
def test_the_metric_that_grew_is_named(metric: str, name: str) -> None:
    grown: dict[str, Any] = {metric: lambda _: 1.3}
    findings = decided(MadeUp(**grown))
    assert {finding.metric for finding in findings.values() if finding.verdict == "regressed"} == {name}
    assert findings[name].ratio == pytest.approx(1.3, rel=0.03)


def test_less_is_an_improvement() -> None:
    assert decided(MadeUp(cpu=lambda _: 0.7))["cpu_s"].verdict == "improved"


def test_a_regression_is_confirmed_by_fresh_pairs() -> None:
    made_up = MadeUp(cpu=lambda _: 1.3)
    assert f"{CONFIRMING} fresh pairs" in decided(made_up, ONE, TWO)["cpu_s"].note
    assert len(made_up.calls) == BATCH + CONFIRMING


def test_an_unconfirmed_regression_is_dropped() -> None:
    finding = decided(MadeUp(cpu=lambda pair: 1.3 if pair < BATCH else 1.0))["cpu_s"]
    assert finding.verdict == "same"
    assert "fresh pairs do not" in finding.note


def test_without_time_to_confirm_a_regression_stays() -> None:
    class Late(MadeUp):
        def sample(self, cell: Cell, side: int) -> Sample:
            if len(self.calls) == BATCH:
                pairs.until = 0.0
            return super().sample(cell, side)

    pairs = Pairs(Late(cpu=lambda _: 1.3))
    findings = {finding.metric: finding for finding in pairs.decide([ONE])}
    assert findings["cpu_s"].verdict == "regressed"


def test_noise_is_inconclusive_in_the_end() -> None:
    made_up = MadeUp(noise=0.5)
    assert decided(made_up)["cpu_s"].verdict == "inconclusive"
    assert len(made_up.calls) == MOST


def test_only_open_cells_are_measured_again() -> None:
    class Mixed(MadeUp):
        def sample(self, cell: Cell, side: int) -> Sample:
            self._scale = 0.5 if cell is ONE else 0.01
            return super().sample(cell, side)

    made_up = Mixed()
    Pairs(made_up).decide([ONE, TWO])
    assert all(TWO.id in ids for _, ids in made_up.calls[:BATCH])
    assert all(ids == [ONE.id] for _, ids in made_up.calls[BATCH:])


def test_either_side_goes_first_and_cells_change_places() -> None:
    made_up = MadeUp()
    Pairs(made_up).decide([ONE, TWO])
    assert {first for first, _ in made_up.calls} == {0, 1}
    assert {tuple(ids) for _, ids in made_up.calls} == {(ONE.id, TWO.id), (TWO.id, ONE.id)}


def test_without_time_nothing_is_decided() -> None:
    findings = decided(MadeUp(), until=0.0)
    assert findings["cpu_s"].verdict == "inconclusive"
    assert "not enough time" in findings["cpu_s"].note


def test_a_system_without_peaks_has_no_finding_of_them() -> None:
    assert "host_peak_bytes" not in decided(MadeUp(has_peaks=False))
