"""``reports/index.html``: a single page of all results that works offline."""

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.draw import chart_style
from reports.draw.pictures import Picture
from reports.pages import tables
from reports.pages.commands import commands_table
from reports.pages.details import areas, as_script, details
from reports.read import standing
from reports.read.benchmark_runs import BenchmarkRun
from reports.read.figures import Figure
from reports.read.merged import reference_machine
from reports.read.records import SEVERITIES, severity_of
from reports.read.sources import FAULTS, Sources
from reports.read.standing import Standing
from reports.read.subject_columns import by_contract

REPRODUCE = """\
pip install nox
nox -s compat -- --subject all      # the contracts, on every available implementation
nox -s faults                       # every bug of the museum against every contract: takes a night
nox -s bench                        # benchmarks on this machine; to compare: -- --subject openpi=PYTHON
nox -s report                       # this page"""
_TEMPLATES = Path(__file__).parents[1] / "templates"
_PARTS = {
    "matrix": "Contracts",
    "museum": "Bugs",
    "speed": "Speed and memory",
    "table": "Table",
    "environments": "Environments",
    "reproduce": "Reproduce",
    "not-measured": "Not measured",
}


def page(sources: Sources, drawn: Sequence[Picture]) -> str:
    """Return the page; the same files give the same bytes.

    Args:
      sources: the content of the result files.
      drawn: the pictures of ``reports.draw.pictures.pictures``.
    """
    script = _text("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    light, dark = chart_style.variables()
    return (
        _environment()
        .get_template("index.html")
        .render(
            parts=_PARTS.items() if sources.museum else [part for part in _PARTS.items() if part[0] != "museum"],
            # The browser compares the hash with exactly this text.
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            css=Markup(_text("page.css")),
            palette=Markup(_palette(light, dark)),
            counts=counts(sources),
            standings=sources.standings,
            machines=[_with_badge(machine) for machine in sources.machines],
            most_broken=standing.most_broken(sources.standings),
            areas=list(areas(sources.columns)),
            outcomes=["pass", "known", "fail", "fixed", "error", "absent", "unavailable"],
            severities=SEVERITIES,
            severities_of=_severities_of(sources.standings),
            matrix=_matrix(sources.standings),
            museum=sources.museum and _museum(sources),
            pictures=[{**vars(picture), "drawing": Markup(picture.drawing)} for picture in drawn],
            base=reference_machine(sources.merged),
            table={
                "head": tables.HEAD,
                "lines": [{**vars(line), "cells": tables.cells(line)} for line in sources.lines],
            },
            environments=tables.environments(sources.runs),
            fixtures=tables.fixtures(sources.runs),
            runs=tables.runs(sources.columns),
            reproduce=REPRODUCE,
            commands=commands(sources.runs),
            taken=sources.commands and commands_table(sources.commands),
            gaps=sources.gaps,
            details=Markup(as_script(details(sources.columns, sources.museum))),
        )
    )


def counts(sources: Sources) -> Mapping[str, Figure | None]:
    """Return the numbers of the first sentence."""
    main = sources.standings[0]
    contracts = {row["contract"] for row in main.column.rows}
    numbers_by_name = {
        "contracts": origin(main, "distinct contracts among its rows", len(contracts)),
        "subjects": origin(main, "columns of the newest runs of this folder", len(sources.standings)),
    }
    if museum := sources.museum:
        numbers = {"faults": museum.faults, "met": museum.historical, "caught": museum.caught}
        for name, faults in numbers.items():
            how = {
                "faults": "rows",
                "met": "rows that name a bug of docs/bugs.md",
                "caught": "rows that a contract caught",
            }
            numbers_by_name[name] = Figure(str(len(faults)), FAULTS.as_posix(), "all rows", how[name])
    return {"faults": None, **numbers_by_name}


def origin(each: Standing, how: str, count: int) -> Figure:
    """Return a number of rows of a contract run, with its provenance."""
    return Figure(str(count), f"compat/{each.column.run.file.name}", f"rows of {each.column.name}", how)


def commands(runs: Sequence[BenchmarkRun]) -> list[str]:
    """Return the command that wrote each result file of the benchmarks."""
    return [
        f"{shlex.join(['python', '-m', 'benchmarks', *run.result['run']['arguments']])}  "
        f"# {run.machine}, commit {run.result['run']['commit'][:7]}"
        for run in runs
    ]


def address(file: str) -> str:
    """Return the URL of a result file, relative to the folder of the pages."""
    return quote(file if file.startswith(("compat/", "commands/", FAULTS.as_posix())) else f"results/{file}")


def _with_badge(machine: Any) -> Mapping[str, Any]:
    """Return a machine with a badge: whether its newest run is valid, dirty, or has an invalid cell."""
    invalid = any(problem.invalid for problem in machine.run.problems)
    badge = "invalid" if invalid else "dirty" if machine.run.dirty else "valid"
    names = ("name", "run", "headlines", "described")
    return {"badge": badge, **{name: getattr(machine, name) for name in names}}


def _matrix(standings: Sequence[Standing]) -> Mapping[str, Mapping[str, list[Mapping[str, str]]]]:
    """Return area -> contract -> one cell per subject."""
    return {
        area: {
            contract: [_cell(each.contracts.get(contract, {}), each.column.title) for each in standings]
            for contract in contracts
        }
        for area, contracts in areas([each.column for each in standings]).items()
    }


def _severities_of(standings: Sequence[Standing]) -> Mapping[str, list[str]]:
    """Return contract -> the severities of its failures by any subject, the worst first."""
    found: dict[str, set[str]] = {}
    for each in standings:
        for row in each.column.rows:
            found.setdefault(row["contract"], set()).add(severity_of(row))
    return {contract: [name for name in SEVERITIES if name in names] for contract, names in found.items()}


def _cell(counted: Mapping[str, int], title: str) -> Mapping[str, str]:
    """Return the worst outcome, with its share of the cases that ran."""
    outcome, total = standing.worst(counted), standing.ran(counted)
    share = f" {counted[outcome]}/{total}" if total and total != counted[outcome] else f" {total}" if total > 1 else ""
    return {"outcome": outcome, "text": f"{outcome}{share}", "label": f"{title}: {outcome}{share}"}


def _museum(sources: Sources) -> Mapping[str, Any]:
    museum, known = sources.museum, by_contract(sources.columns)
    assert museum is not None
    shown = [{**fault, "caught_by": [name for name in fault["caught_by"] if name in known]} for fault in museum.faults]
    return {"file": FAULTS.as_posix(), "met": len(museum.historical), "faults": shown}


def _palette(light: str, dark: str) -> str:
    """Return the palette of the system's theme, overridable by the page's theme."""
    as_dark = f":root[data-theme=dark]{{{dark}color-scheme:dark}}"
    by_system = f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}color-scheme:dark}}}}"
    return f":root{{{light}color-scheme:light}}{by_system}{as_dark}"


@cache
def _environment() -> Environment:
    """Return the template environment: everything is escaped, and an unknown name is an error."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.filters |= {
        "href": address,
        "is_link": _is_link,
        "short": _short,
        "ran": standing.ran,
        "code": _code,
        "worst": standing.worst,
    }
    made.globals["origin"] = origin
    return made


def _is_link(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def _code(text: str) -> Markup:
    """Format text between backticks as code."""
    parts = [
        Markup("<code>{}</code>").format(part) if odd % 2 else escape(part) for odd, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def _short(url: str) -> str:
    """Shorten a URL by dropping the scheme and common host names."""
    return url.partition("://")[2].removeprefix("www.").removeprefix("github.com/")


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
