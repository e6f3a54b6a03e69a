"""The table of results, areas by subjects, and a list of the runs."""

from collections import Counter
from collections.abc import Mapping, Sequence

from reports.pages.markdown import link, plain, table
from reports.read.records import area_of, severity_of
from reports.read.subject_columns import Column

NONE_RAN = "\N{EN DASH}"
_INTRODUCTION = """\
Passing cases of those that ran ({none_ran}: none ran). The result of every contract, and the reasons of `known`
failures, are in [{name}]({page})."""


def matrix(columns: Sequence[Column], *, page: str, folder: str) -> str:
    """Return table, footnotes and runs.

    Args:
      columns: the columns of the table.
      page: the path to the page of every contract.
      folder: the path to the folder of the result files.
    """
    areas = sorted({area_of(row) for column in columns for row in column.rows})
    notes = {column.title: number for number, column in enumerate(_unavailable(columns), start=1)}
    rows = [[area, *(_cell(column, area, notes) for column in columns)] for area in areas]
    total = ["**all**", *(_cell(column, None, notes) for column in columns)]
    return "\n".join(
        [
            _INTRODUCTION.format(name=page.rpartition("/")[2], page=page, none_ran=NONE_RAN),
            "",
            *table(["area", *(plain(column.title) for column in columns)], [*rows, total]),
            "",
            *(line for column in _unavailable(columns) for line in (_note(column, notes), "")),
            *runs(columns, folder),
        ]
    )


def _note(column: Column, notes: Mapping[str, int]) -> str:
    return f"({notes[column.title]}) {plain(column.title)} was unavailable: {plain(column.unavailable)}"


def runs(columns: Sequence[Column], folder: str) -> list[str]:
    """Return a line for each run with a column, the newest first: date, platform, commit, file and packages."""
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
    """Return a subject with the versions of its packages."""
    packages: Mapping[str, str] = column.subject.get("packages", {})
    others = [f"{name} {version}" for name, version in packages.items() if name != column.name]
    packages_or_reason = "unavailable" if column.unavailable else ", ".join(others)
    return plain(f"{column.title} ({packages_or_reason})" if packages_or_reason else column.title)


def _unavailable(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.unavailable]


def _cell(column: Column, area: str | None, notes: Mapping[str, int]) -> str:
    """Return passed / run, and the counts of other outcomes, for an area or (None) for all."""
    if column.unavailable:
        return f"unavailable ({notes[column.title]})"
    rows = [row for row in column.rows if area in (None, area_of(row))]
    counts, silent = Counter(row["outcome"] for row in rows), sum(severity_of(row) == "silent" for row in rows)
    ran = counts.total() - counts["absent"] - counts["unavailable"]
    others = [f"{counts[name]} {name}" for name in ("known", "fail", "fixed", "error") if counts[name]]
    which = f" ({silent} silent)" if silent else ""
    return ", ".join([f"{counts['pass']}/{ran}", *others]) + which if ran else NONE_RAN
