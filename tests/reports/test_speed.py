"""The figures of speed and memory in ``docs/benchmarks.md``: each comes from a committed file that keeps the rules."""

import json
from pathlib import Path

import pytest

from benchmarks.results.validity import check_file
from reports.pages.speed import speed
from reports.read.benchmark_runs import read_runs
from tests.reports import toy_benchmarks as toy

RESULTS = Path(__file__).parents[2] / "reports" / "results"


def page(folder: Path, *results: toy.Json) -> list[str]:
    """Return the lines of the page for these results."""
    for number, result in enumerate(results):
        (folder / "machine").mkdir(exist_ok=True)
        (folder / "machine" / f"{number}.json").write_text(json.dumps(result))
    return speed(read_runs(folder), folder="results").splitlines()


def row(lines: list[str], cell: str) -> list[str]:
    return next([part.strip() for part in line.split("|")[1:-1]] for line in lines if f"`{cell}`" in line)


def test_every_committed_result_keeps_the_rules() -> None:
    for file in RESULTS.rglob("*.json"):
        assert [str(problem) for problem in check_file(file) if problem.invalid] == [], file


def test_a_row_has_both_subjects_and_their_ratio(tmp_path: Path) -> None:
    ours, theirs = toy.load("reference", seconds=1.0), toy.load("openpi", seconds=2.0)
    _, ours_s, limit, ours_gb, theirs_s, theirs_gb, time, memory = row(
        page(tmp_path, toy.result(ours, theirs)), ours["id"]
    )
    assert (time, theirs_s.partition(":")[0], limit) == ("0.50x", "openpi", "")
    assert float(theirs_s.split()[1]) == pytest.approx(2 * float(ours_s.split()[0]), rel=0.01)
    assert memory == f"{float(ours_gb.split()[0]) / float(theirs_gb.split()[0]):.2f}x"


def test_a_ratio_without_a_difference_is_not_claimed(tmp_path: Path) -> None:
    """Samples that spread widely around those of the other show nothing, whatever their medians are."""
    spread = {"samples": [sample | {"wall_s": 0.2 + number % 5} for number, sample in enumerate(toy.samples(1.0))]}
    ours, theirs = toy.load("reference") | spread, toy.load("openpi", seconds=2.0) | spread
    assert row(page(tmp_path, toy.result(ours, theirs)), ours["id"])[6] == "no difference shown (1.00x)"


def test_a_load_is_a_multiple_of_what_the_machine_could_do(tmp_path: Path) -> None:
    """Reading and casting 0.4 GB at 4 GB/s and decoding them at 2 GB/s take 0.4 s; this load takes a second."""
    fixture = toy.fixture(layout="openpi")
    measured = toy.ceilings(decode_gbs=2.0, encode_gbs=1.0, digest_gbs=1.0, cast_gbs=4.0, write_gbs=0.5)
    result = toy.result(toy.load("reference"), fixtures=[fixture], ceilings=measured)
    multiple = row(page(tmp_path, result), toy.load()["id"])[2]
    assert float(multiple.removesuffix("x")) == pytest.approx(1 / 0.4, rel=0.1)


def test_steps_are_given_in_samples_per_second(tmp_path: Path) -> None:
    step = toy.step("reference")
    assert row(page(tmp_path, toy.result(step)), step["id"])[1].endswith("samples/s")


def test_out_of_memory_is_shown_without_a_ratio(tmp_path: Path) -> None:
    ours = toy.load("reference")
    theirs = {**toy.load("openpi"), "outcome": "out_of_memory", "reason": "killed", "samples": []}
    assert row(page(tmp_path, toy.result(ours, theirs)), ours["id"])[4:] == ["openpi: out of memory", "", "", ""]


def test_the_newest_run_of_a_cell_counts_and_both_files_are_named(tmp_path: Path) -> None:
    old = toy.result(toy.load("reference", seconds=9.0), toy.step("reference"))
    run = {**toy.run(), "started": "2026-11-23T08:00:00Z"}
    lines = page(tmp_path, old, toy.result(toy.load("reference", seconds=1.0), run=run))
    assert float(row(lines, toy.load("reference")["id"])[1].split()[0]) < 2
    assert sum(line.startswith("* ") for line in lines) == 2


def test_smoke_tests_are_not_shown(tmp_path: Path) -> None:
    tiny = {**toy.load("reference"), "size": "tiny"}
    assert page(tmp_path, toy.result(tiny)) == []


def test_an_invalid_file_is_rejected_by_name(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json"):
        read_runs(tmp_path)
