"""The README's headline results."""

from pathlib import Path

from reports.pages.headline import headline
from reports.read.sources import read_sources
from tests.reports import toy_project


def test_it_has_every_implementation_and_machine(tmp_path: Path) -> None:
    """Every implementation has a row with its passed cases, and every headline number a line with those of others."""
    sources = read_sources(toy_project.make(tmp_path) / "reports")
    text = headline(sources.standings, sources.machines)
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(sources.standings) == 2
    reference = next(each for each in sources.standings if each.column.name == "reference")
    assert f"| {reference.passed} of {reference.ran} " in rows[0]
    lines = [line for line in text.splitlines() if line.startswith("* ")]
    assert len(lines) == sum(len(machine.headlines) for machine in sources.machines) > 0
    assert all("the peak of openpi" in line for line in lines)


def test_without_benchmarks_it_is_the_table(tmp_path: Path) -> None:
    sources = read_sources(toy_project.make(tmp_path) / "reports")
    assert headline(sources.standings, []).splitlines()[-1].startswith("| ")


def test_text_from_outside_is_escaped(tmp_path: Path) -> None:
    """Names of subjects and machines come from files, so markup in them is escaped."""
    sources = read_sources(toy_project.make(tmp_path) / "reports")
    assert "<img" not in headline(sources.standings, sources.machines)
