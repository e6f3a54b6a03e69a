"""``reports/index.html``: one page that works without a network, from what the result files say."""

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
from reports.read.columns import by_contract
from reports.read.figures import Figure
from reports.read.merged import reference_machine
from reports.read.runs import Run
from reports.read.sources import FAULTS, Sources
from reports.read.standing import Standing

REPRODUCE = """\
pip install nox
nox -s compat -- --subject all      # the laws, every implementation that can be had
nox -s faults                       # every bug of the museum, every law: leave it running overnight
nox -s bench                        # this machine's numbers; beside another's: -- --subject openpi=PYTHON
nox -s report                       # this page"""
_TEMPLATES = Path(__file__).parents[1] / "templates"
_PARTS = {
    "matrix": "Laws",
    "museum": "Bugs",
    "speed": "Speed and memory",
    "table": "Table",
    "environments": "Environments",
    "reproduce": "Reproduce",
    "not-measured": "Not measured",
}


def page(found: Sources, drawn: Sequence[Picture]) -> str:
    """The page, the same for the same files.

    Args:
      found: what the files say.
      drawn: ``reports.draw.pictures.pictures`` of it.
    """
    script = _text("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    light, dark = chart_style.variables()
    return (
        _environment()
        .get_template("index.html")
        .render(
            parts=_PARTS.items() if found.museum else [part for part in _PARTS.items() if part[0] != "museum"],
            # What the browser has to find is this text to the letter.
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            css=Markup(_text("page.css")),
            palette=Markup(_palette(light, dark)),
            counts=counts(found),
            standings=found.standings,
            machines=[_with_badge(machine) for machine in found.machines],
            most_broken=standing.most_broken(found.standings),
            areas=list(areas(found.columns)),
            outcomes=["pass", "known", "fail", "fixed", "error", "absent", "unavailable"],
            matrix=_matrix(found.standings),
            museum=found.museum and _museum(found),
            pictures=[{**vars(picture), "drawing": Markup(picture.drawing)} for picture in drawn],
            base=reference_machine(found.merged),
            table={"head": tables.HEAD, "lines": [{**vars(line), "cells": tables.cells(line)} for line in found.lines]},
            environments=tables.environments(found.runs),
            fixtures=tables.fixtures(found.runs),
            runs=tables.runs(found.columns),
            reproduce=REPRODUCE,
            commands=commands(found.runs),
            taken=found.commands and commands_table(found.commands),
            gaps=found.gaps,
            details=Markup(as_script(details(found.columns, found.museum))),
        )
    )


def counts(found: Sources) -> Mapping[str, Figure | None]:
    """The numbers of the first sentence."""
    main = found.standings[0]
    contracts = {row["contract"] for row in main.column.rows}
    told = {
        "contracts": origin(main, "different contracts among its rows", len(contracts)),
        "subjects": origin(main, "columns of the newest runs of this folder", len(found.standings)),
    }
    if museum := found.museum:
        numbers = {"faults": museum.faults, "met": museum.historical, "caught": museum.caught}
        for name, faults in numbers.items():
            how = {
                "faults": "rows",
                "met": "rows that name a bug of the catalogue",
                "caught": "rows that a contract caught",
            }
            told[name] = Figure(str(len(faults)), FAULTS.as_posix(), "all rows", how[name])
    return {"faults": None, **told}


def origin(each: Standing, how: str, count: int) -> Figure:
    """A number of rows of a run of the contracts."""
    return Figure(str(count), f"compat/{each.column.run.file.name}", f"rows of {each.column.name}", how)


def commands(runs: Sequence[Run]) -> list[str]:
    """What wrote each result file of the benchmarks."""
    return [
        f"{shlex.join(['python', '-m', 'benchmarks', *run.result['run']['arguments']])}  "
        f"# {run.machine}, commit {run.result['run']['commit'][:7]}"
        for run in runs
    ]


def address(file: str) -> str:
    """Where a result file is, from the folder of the pages, as a URL."""
    return quote(file if file.startswith(("compat/", "commands/", FAULTS.as_posix())) else f"results/{file}")


def _with_badge(machine: Any) -> Mapping[str, Any]:
    """A machine whose newest run is dirty, or has a cell that does not count, says so."""
    invalid = any(problem.invalid for problem in machine.run.problems)
    badge = "invalid" if invalid else "dirty" if machine.run.dirty else "valid"
    names = ("name", "run", "headlines", "described")
    return {"badge": badge, **{name: getattr(machine, name) for name in names}}


def _matrix(standings: Sequence[Standing]) -> Mapping[str, Mapping[str, list[Mapping[str, str]]]]:
    """Area -> contract -> a cell a subject."""
    return {
        area: {
            contract: [_cell(each.contracts.get(contract, {}), each.column.title) for each in standings]
            for contract in contracts
        }
        for area, contracts in areas([each.column for each in standings]).items()
    }


def _cell(counted: Mapping[str, int], title: str) -> Mapping[str, str]:
    """The worst outcome, and of how many of the cases that were asked."""
    outcome, total = standing.worst(counted), standing.asked(counted)
    share = f" {counted[outcome]}/{total}" if total and total != counted[outcome] else f" {total}" if total > 1 else ""
    return {"outcome": outcome, "text": f"{outcome}{share}", "told": f"{title}: {outcome}{share}"}


def _museum(found: Sources) -> Mapping[str, Any]:
    museum, known = found.museum, by_contract(found.columns)
    assert museum is not None
    shown = [{**fault, "caught_by": [name for name in fault["caught_by"] if name in known]} for fault in museum.faults]
    return {"file": FAULTS.as_posix(), "met": len(museum.historical), "faults": shown}


def _palette(light: str, dark: str) -> str:
    """Of the system's theme, unless the page's is set."""
    as_dark = f":root[data-theme=dark]{{{dark}color-scheme:dark}}"
    by_system = f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}color-scheme:dark}}}}"
    return f":root{{{light}color-scheme:light}}{by_system}{as_dark}"


@cache
def _environment() -> Environment:
    """Everything is escaped; a name that is not known is an error."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.filters |= {
        "href": address,
        "is_link": _is_link,
        "short": _short,
        "asked": standing.asked,
        "code": _code,
        "worst": standing.worst,
    }
    made.globals["origin"] = origin
    return made


def _is_link(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def _code(text: str) -> Markup:
    """Text in which what stands between backticks is code."""
    parts = [
        Markup("<code>{}</code>").format(part) if odd % 2 else escape(part) for odd, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def _short(url: str) -> str:
    """What tells a link from others: without host names that all have."""
    return url.partition("://")[2].removeprefix("www.").removeprefix("github.com/")


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
