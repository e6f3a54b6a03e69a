"""The README's headline results: cases passed by each implementation, and a few numbers per machine."""

from collections.abc import Sequence

from reports.pages.markdown import plain, table
from reports.read.headlines import Headline, Machine
from reports.read.standing import Standing

_HEAD = ("implementation", "description", "cases passed", "failures, the silent first")


def headline(standings: Sequence[Standing], machines: Sequence[Machine]) -> str:
    """Return a table of implementations, and a line per number of a machine.

    Args:
      standings: the rows of the table.
      machines: the machines whose numbers follow; empty if nothing was measured.
    """
    lines = [f"* {plain(_line(machine, each))}" for machine in machines for each in machine.headlines]
    return "\n".join([*table(_HEAD, [_row(each) for each in standings]), *([""] if lines else []), *lines])


def _row(standing: Standing) -> list[str]:
    passed = f"{standing.passed} of {standing.ran}" if standing.ran else "unavailable"
    return [plain(standing.column.title), plain(standing.about), passed, standing.failures]


def _line(machine: Machine, each: Headline) -> str:
    others = "".join(f", {figure.text} {whose}" for whose, figure in each.beside)
    return f"{machine.name}: {each.label}: {each.value.text}{others}"
