"""The README's headline results."""

from pathlib import Path

from reports.pages.headline import headline
from reports.read.sources import read_sources
from tests.reports import toy_project


def test_it_has_every_implementation_and_machine(tmp_path: Path) -> None:
    """A row per implementation with the cases it keeps, and a line per headline number with the same of others."""
    found = read_sources(toy_project.make(tmp_path) / "reports")
    text = headline(found.standings, found.machines)
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(found.standings) == 2
    reference = next(each for each in found.standings if each.column.name == "reference")
    assert f"| {reference.passed} of {reference.asked} " in rows[0]
    lines = [line for line in text.splitlines() if line.startswith("* ")]
    assert len(lines) == sum(len(machine.headlines) for machine in found.machines) > 0
    assert all("the peak of openpi" in line for line in lines)


def test_without_benchmarks_it_is_the_table(tmp_path: Path) -> None:
    found = read_sources(toy_project.make(tmp_path) / "reports")
    assert headline(found.standings, []).splitlines()[-1].startswith("| ")


def test_what_others_say_is_no_markup(tmp_path: Path) -> None:
    """Names of subjects and machines come from files."""
    found = read_sources(toy_project.make(tmp_path) / "reports")
    assert "<img" not in headline(found.standings, found.machines)
