"""Results of several machines: which run counts, and what is compared with what."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results.summaries import median
from reports.pages.tables import cells
from reports.read.benchmark_runs import BenchmarkRun, read_runs
from reports.read.gaps import gaps
from reports.read.headlines import machines
from reports.read.lines import Line, lines, summary
from reports.read.merged import newest, reference_machine, side_by_side
from tests.reports import toy_benchmarks as toy
from tests.reports.toy_project import FAST, SLOW, other_machine, write_result

LOAD = toy.load()["id"]


def runs(root: Path, *results: toy.Json) -> list[BenchmarkRun]:
    for result in results:
        write_result(root, result)
    return read_runs(root / "reports" / "results")


def dated(day: int, **changes: Any) -> toy.Json:
    """Return the fields that differ in the run of a day."""
    started = f"2026-11-{day}T08:00:00Z"
    return toy.run(id=f"{started}-1a2b3c4", started=started, **changes)


def line(results: list[BenchmarkRun], machine: str, subject: str = "reference", cell: str = LOAD) -> Line:
    (only,) = [
        each for each in lines(newest(results)) if (each.machine, each.subject, each.cell) == (machine, subject, cell)
    ]
    return only


def test_the_newest_run_that_counts_wins(tmp_path: Path) -> None:
    """The latest start wins; invalid results do not count, and those of changed sources only if there are no others."""
    wrong: toy.Json = {"digest": {"expected": toy.SHA, "found": toy.OTHER_SHA, "differing": ["a: expected 1, found 2"]}}
    results = runs(
        tmp_path,
        toy.result(toy.load(seconds=4.0), run=dated(20)),
        toy.result(toy.load(seconds=3.0), run=dated(21)),
        toy.result(toy.load(seconds=2.0), run=dated(22, dirty=True)),
        toy.result(toy.load(seconds=1.0, **wrong), run=dated(23)),
    )
    shown = line(results, SLOW)
    assert (shown.state, shown.started) == ("valid", "2026-11-21T08:00:00Z")


@pytest.mark.parametrize(
    ("run", "cell", "state"),
    [
        (dated(22, dirty=True), toy.load(), "dirty"),
        (
            dated(22),
            toy.load(digest={"expected": toy.SHA, "found": toy.OTHER_SHA, "differing": ["a: 1 is 2"]}),
            "invalid",
        ),
        (dated(22), toy.unmeasured(toy.load(), "out_of_memory"), "out of memory"),
        (dated(22), toy.unmeasured(toy.load(), "absent"), "absent"),
    ],
)
def test_a_result_that_does_not_count_is_marked(tmp_path: Path, run: toy.Json, cell: toy.Json, state: str) -> None:
    shown = line(runs(tmp_path, toy.result(cell, toy.step(), run=run)), SLOW)
    assert shown.state == state
    assert shown.reason or state == "dirty"
    assert (state in " ".join(cells(shown))) or state == "dirty"


def test_two_machines_have_the_right_ratio(tmp_path: Path) -> None:
    """A machine that is four times as fast has the ratio 4 in every cell; the reference machine has none."""
    results = runs(tmp_path, toy.result(), other_machine(4.0))
    assert reference_machine(newest(results)) == SLOW
    for each in lines(newest(results)):
        assert each.times_machine == (pytest.approx(4.0) if each.machine == FAST else None), each.cell


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fixtures": [toy.fixture(sha256=toy.OTHER_SHA)]}, "n/c (fixture)"),
        ({"run": toy.run(version="2.0.0")}, "n/c (suite version)"),
        ({"cells": [toy.load(options={**toy.load()["options"], "dtype": "float32"})]}, "n/c (configuration)"),
    ],
)
def test_different_configurations_are_not_compared(tmp_path: Path, changes: toy.Json, reason: str) -> None:
    """Another checkpoint, another major version and other options each prevent a comparison."""
    other = other_machine(**{key: value for key, value in changes.items() if key != "cells"})
    other["cells"] = changes.get("cells", other["cells"])
    shown = line(runs(tmp_path, toy.result(), other), FAST)
    assert shown.times_machine == reason
    assert reason in cells(shown)


def test_subjects_are_compared_within_one_run(tmp_path: Path) -> None:
    """Subjects are compared within a run even where a newer run has only one of them."""
    pair = toy.result(toy.load(seconds=1.0), toy.load("openpi", seconds=2.0), run=dated(20))
    results = runs(tmp_path, pair, toy.result(toy.load(seconds=9.0), run=dated(21)))
    assert line(results, SLOW, "openpi").times_reference == pytest.approx(0.5)
    assert line(results, SLOW).started == "2026-11-21T08:00:00Z"
    (together,) = side_by_side(results)
    assert together.run.started == "2026-11-20T08:00:00Z"


def test_headlines_belong_to_the_cell_that_they_name(tmp_path: Path) -> None:
    restore = toy.load(id="load/restore/small/warm", operation="restore", seconds=0.5)
    beside = {**restore, "subject": "openpi", "samples": toy.samples(1.0, read_bytes=400_000_000)}
    step = toy.step(options={**toy.step()["options"], "lora": True})
    (machine,) = machines(runs(tmp_path, toy.result(restore, beside, toy.load(), step)))
    speed, rate, memory = machine.headlines
    times = [sample["wall_s"] for sample in restore["samples"]]
    assert speed.value.text == f"{0.4 / median(times):#.3g} GB/s"
    assert speed.value.place == "load/restore/small/warm, reference"
    assert speed.beside[0][1].text == "2.00x"
    assert rate.value.text.endswith(" samples/s")
    assert memory.value.text == "1.25x"


def test_the_csv_has_no_formulas(tmp_path: Path) -> None:
    """A spreadsheet evaluates text that begins with an equals sign."""
    result = toy.result(toy.load("=1+1"), subjects={"=1+1": toy.subject("@a")})
    text = summary(lines(newest(runs(tmp_path, result))))
    assert ",'=1+1,'@a," in text


def test_unmeasured_cells_are_listed(tmp_path: Path) -> None:
    absent = toy.unmeasured(toy.lora("openpi"), "absent", "openpi does not offer merge")
    missing = gaps(newest(runs(tmp_path, toy.result(toy.load(), toy.lora(), absent))))
    assert "openpi does not offer merge." in missing
    assert f"{SLOW}: training steps, sampling at size small." in missing
    assert any("No machine with an accelerator" in gap for gap in missing)
    assert not any("No machine" in gap for gap in gaps(newest(runs(tmp_path, other_machine()))))


def test_a_result_file_must_follow_the_schema(tmp_path: Path) -> None:
    """A file that violates the schema is rejected with its name."""
    file = write_result(tmp_path, toy.result())
    broken = json.loads(file.read_text(encoding="utf-8"))
    broken["cells"][0]["samples"][0]["wall_s"] = "fast"
    file.write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{file.name}: .*wall_s"):
        read_runs(tmp_path)
