"""The table of results: areas by subjects, and what ran where."""

from collections import Counter
from collections.abc import Mapping, Sequence

from reports.pages.markdown import link, plain, table
from reports.read.columns import Column
from reports.read.records import area_of

NOT_ASKED = "\N{EN DASH}"
_INTRODUCTION = """\
Cases that pass, of those that were asked ({not_asked}: none). What came of every contract, and the reasons of `known`
failures, are in [{name}]({page})."""


def matrix(columns: Sequence[Column], *, page: str, folder: str) -> str:
    """Table, footnotes and runs.

    Args:
      columns: the table's.
      page: the path of the page that has every contract.
      folder: the path of the folder of the result files.
    """
    areas = sorted({area_of(row) for column in columns for row in column.rows})
    notes = {column.title: number for number, column in enumerate(_unavailable(columns), start=1)}
    rows = [[area, *(_cell(column, area, notes) for column in columns)] for area in areas]
    total = ["**all**", *(_cell(column, None, notes) for column in columns)]
    return "\n".join(
        [
            _INTRODUCTION.format(name=page.rpartition("/")[2], page=page, not_asked=NOT_ASKED),
            "",
            *table(["area", *(plain(column.title) for column in columns)], [*rows, total]),
            "",
            *(line for column in _unavailable(columns) for line in (_note(column, notes), "")),
            *runs(columns, folder),
        ]
    )


def _note(column: Column, notes: Mapping[str, int]) -> str:
    return f"({notes[column.title]}) {plain(column.title)} could not be had: {plain(column.unavailable)}"


def runs(columns: Sequence[Column], folder: str) -> list[str]:
    """A line for each run that gave a column, the newest first: when, where, from which sources, and which packages."""
    by_run: dict[tuple[str, str], list[Column]] = {}
    for column in columns:
        by_run.setdefault(column.age, []).append(column)
    return [f"* {_run(by_run[age], folder)}" for age in sorted(by_run, reverse=True)]


def _run(columns: Sequence[Column], folder: str) -> str:
    run = columns[0].run
    header, git = run.header, run.header["git"]
    commit = f"commit {git['commit'][:7]}" if git["commit"] else "no commit"
    where = [header["started"][:10], f"Python {header['python']}", header["platform"], commit]
    changes = " with local changes" if git["dirty"] else ""
    file = link(plain(run.file.name), f"{folder}/{run.file.name}")
    return f"{plain(', '.join(where))}{changes}, {file}: {'; '.join(_packages(column) for column in columns)}"


def _packages(column: Column) -> str:
    """A subject with the versions of what it runs on."""
    packages: Mapping[str, str] = column.subject.get("packages", {})
    others = [f"{name} {version}" for name, version in packages.items() if name != column.name]
    told = "unavailable" if column.unavailable else ", ".join(others)
    return plain(f"{column.title} ({told})" if told else column.title)


def _unavailable(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.unavailable]


def _cell(column: Column, area: str | None, notes: Mapping[str, int]) -> str:
    """Of an area, or of all: passed / asked, and how many of the others are what."""
    if column.unavailable:
        return f"unavailable ({notes[column.title]})"
    counts = Counter(row["outcome"] for row in column.rows if area in (None, area_of(row)))
    asked = counts.total() - counts["absent"] - counts["unavailable"]
    others = [f"{counts[name]} {name}" for name in ("known", "fail", "fixed", "error") if counts[name]]
    return ", ".join([f"{counts['pass']}/{asked}", *others]) if asked else NOT_ASKED
