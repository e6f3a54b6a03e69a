"""``reports/README.md``: the page as GitHub shows it, Markdown with the pictures as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from reports.draw.chart_style import standalone
from reports.draw.pictures import Picture, outcomes
from reports.pages import tables
from reports.pages.commands import commands_table
from reports.pages.markdown import link, plain, table
from reports.pages.page import REPRODUCE, address, commands, counts
from reports.pages.tables import Table
from reports.read.figures import Figure
from reports.read.sources import Sources

FOLDER = Path("pictures")
_HEAD = """\
# What the result files say

Written by `nox -s report` from the files in this folder, and from nothing else. The same with filters, the cases of
every law and the museum of bugs is [index.html](index.html): download it, it needs no network. Every law by
implementation is in [matrix.md](matrix.md), every number in [summary.csv](summary.csv).
"""
_LAWS = "{contracts} laws, put to {subjects} implementations on the same cases."
_BUGS = " {faults} loader bugs were rebuilt on purpose, {met} of them met by users; the laws catch {caught}."


def overview(found: Sources, drawn: Sequence[Picture]) -> Mapping[Path, str]:
    """Name in the folder of the pages -> text, of the page and its pictures.

    Args:
      found: what the files say.
      drawn: ``reports.draw.pictures.pictures`` of it.
    """
    first = outcomes(found)
    parts = [
        _HEAD,
        "## What holds, for whom\n",
        _sentence(counts(found)),
        *([_shown(first), ""] if first else []),
        *_standing(found),
        "## How fast, how lean\n",
        *_machines(found),
        *(line for picture in drawn for line in (f"### {picture.title}\n", _shown(picture), "", picture.caption, "")),
        "## Everything that was measured\n",
        *_lines(found),
        *(["## What the commands take\n", *_table(commands_table(found.commands))] if found.commands else []),
        "## Environments and fixtures\n",
        *_table(tables.environments(found.runs)),
        *_table(tables.fixtures(found.runs)),
        *_table(tables.runs(found.columns)),
        "## How to reproduce\n",
        "```bash",
        REPRODUCE,
        "```\n",
        "What wrote each file of the benchmarks (folders are left out):\n",
        *("```bash", *commands(found.runs), "```", ""),
        "## What is not measured\n",
        *(f"* {plain(gap)}" for gap in found.gaps),
    ]
    files = [*([first] if first else []), *drawn]
    return {
        Path("README.md"): "\n".join(parts).rstrip("\n") + "\n",
        **{FOLDER / f"{picture.name}.svg": standalone(picture.drawing) for picture in files},
    }


def _sentence(told: Mapping[str, Figure | None]) -> str:
    numbers = {name: _number(figure) for name, figure in told.items() if figure}
    return "".join(text.format_map(numbers) for text in (_LAWS, _BUGS) if "faults" in numbers or text == _LAWS) + "\n"


def _standing(found: Sources) -> list[str]:
    rows = [
        [
            plain(each.column.title),
            f"{each.passed} of {each.asked}" if each.asked else "not to be had",
            ", ".join(f"{area} ({count})" for area, count in each.weakest),
            link(plain(each.column.run.file.name), f"compat/{quote(each.column.run.file.name)}"),
        ]
        for each in found.standings
    ]
    return [*table(["implementation", "cases kept", "breaks most in", "rows"], rows), ""]


def _machines(found: Sources) -> list[str]:
    """Three numbers a machine."""
    rows = []
    for machine in found.machines:
        for headline in machine.headlines:
            others = ", ".join(f"{_number(figure)} {plain(whose)}" for whose, figure in headline.beside)
            rows.append([plain(machine.name), plain(headline.label), f"**{_number(headline.value)}**", others])
    described = [
        f"* **{plain(each.name)}**: {plain(each.described)}, {each.run.started[:10]}" for each in found.machines
    ]
    return (
        [*described, "", *table(["machine", "", "reference", "next to others"], rows), ""]
        if rows
        else ["Not measured.", ""]
    )


def _lines(found: Sources) -> list[str]:
    head = [*tables.HEAD]
    rows = [
        [*map(plain, tables.cells(line)), link(f"{line.started[:10]} {line.commit}", address(line.file))]
        for line in found.lines
    ]
    return [*table(head, rows), ""]


def _table(content: Table) -> list[str]:
    return [*table([*map(plain, content.head)], [[*map(plain, row)] for row in content.rows]), ""]


def _number(figure: Figure) -> str:
    return link(plain(figure.text), address(figure.file))


def _shown(picture: Picture) -> str:
    return f"![{picture.title}]({FOLDER.as_posix()}/{picture.name}.svg)"
