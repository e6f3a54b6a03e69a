"""``docs/contracts.md``: every contract by area, with its law, its source, and the capabilities it needs."""

import importlib
import re
from collections.abc import Iterable, Mapping
from itertools import groupby

from suite.docs.laws import all_contracts, laws_over_layouts
from suite.session.registry import Contract

_INTRODUCTION = """\
# Contracts

<!-- Written by `python -m suite.docs` from the docstrings of suite/contracts. Edit those. -->

{count} contracts in {areas} areas. Each is a pytest function in `suite/contracts/test_<area>.py`, and its docstring is
the law printed here. A contract runs on a subject that has the [capabilities](../suite/subjects/capabilities.py) it
needs; otherwise it counts as absent. [Extend it](extending.md#add-a-contract) shows how to add one,
[Results](results.md) who keeps them.

| area | contracts | about |
|---|---|---|
{table}
"""
_LAYOUTS = """\
## Facts and layouts

The number of cases with which a fact is asked of a subject that reads the layout.
"""
_ANCHORS = re.compile(r"docs/bugs\.md(#[\w-]+(?:, #[\w-]+)*)")
_ISSUE = re.compile(r"\b(openpi|lerobot|[\w.-]+/[\w.-]+) (?:PR )?#(\d+)((?:, #\d+)*)")
_PAPER = re.compile(r"\barXiv:(\d{4}\.\d{5})")
_REPOSITORIES = {"openpi": "Physical-Intelligence/openpi", "lerobot": "huggingface/lerobot"}
# What Markdown would read as markup; an underscore between letters is none.
_MARKUP = re.compile(r"[*<>\[\]]|(?<![^\W_])_|_(?![^\W_])")


def page() -> str:
    """Return the text of ``docs/contracts.md``."""
    contracts = all_contracts()
    abouts = {area: _about(area) for area in {contract.area for contract in contracts.values()}}
    return f"{render(contracts.values(), abouts)}\n{layout_table(laws_over_layouts())}"


def render(contracts: Iterable[Contract], abouts: Mapping[str, str]) -> str:
    """Return the page.

    Args:
      contracts: what to list.
      abouts: area -> a sentence about it.
    """
    ordered = sorted(contracts, key=lambda contract: contract.id)
    areas = {area: list(found) for area, found in groupby(ordered, key=lambda contract: contract.area)}
    table = "\n".join(f"| [{area}](#{area}) | {len(found)} | {_plain(abouts[area])} |" for area, found in areas.items())
    parts = [_INTRODUCTION.format(count=len(ordered), areas=len(areas), table=table)]
    for area, found in areas.items():
        parts += [f"## {area}\n", f"{_plain(abouts[area])}\n", *map(_entry, found)]
    return "\n".join(parts)


def layout_table(laws: Mapping[str, Mapping[str, int | str]]) -> str:
    """Return the table of facts and layouts.

    Args:
      laws: contract id -> layout -> the number of cases, or the reason why there are none.
    """
    layouts = list(next(iter(laws.values())))
    reasons = list(dict.fromkeys(cell for law in laws.values() for cell in law.values() if isinstance(cell, str)))
    rows = [f"| fact | {' | '.join(layouts)} |", f"|---|{'---|' * len(layouts)}"]
    for id_, law in laws.items():
        shown = [str(cell) if isinstance(cell, int) else f"({reasons.index(cell) + 1})" for cell in law.values()]
        rows.append(f"| [{id_}](#{id_.replace('.', '')}) | {' | '.join(shown)} |")
    notes = [f"{number}. {_plain(reason)[:1].upper()}{_plain(reason)[1:]}." for number, reason in enumerate(reasons, 1)]
    return "\n".join([_LAYOUTS, *rows, "\nA number in parentheses is the reason:\n", *notes, ""])


def _about(area: str) -> str:
    """The first sentence or paragraph of the docstring of an area's file, on one line."""
    module = importlib.import_module(f"suite.contracts.test_{area}")
    return " ".join((module.__doc__ or "").partition("\n\n")[0].split())


def _entry(contract: Contract) -> str:
    needs = ", ".join(f"`{need}`" for need in contract.needs) or "nothing"
    return f"### {contract.id}\n\n{_plain(contract.law)}\n\n* Source: {_source(contract.source)}\n* Needs: {needs}\n"


def _source(text: str) -> str:
    """A source as Markdown: bugs, issues, and papers as links."""
    text = _ISSUE.sub(_issues, _plain(text))
    text = _PAPER.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return _ANCHORS.sub(lambda found: ", ".join(map(_bug, found[1].split(", "))), text)


def _bug(anchor: str) -> str:
    name = anchor.removeprefix("#")
    return f"[{name.upper()}](bugs.md{anchor})" if name[1:].isdigit() else f"[{name}](bugs.md{anchor})"


def _issues(found: re.Match[str]) -> str:
    """One issue or pull request, or several of the same repository."""
    repository = _REPOSITORIES.get(found[1], found[1])
    first, *others = [found[2], *re.findall(r"\d+", found[3])]
    url = f"https://github.com/{repository}/issues/"
    return ", ".join([f"[{found[1]} #{first}]({url}{first})", *(f"[#{other}]({url}{other})" for other in others)])


def _plain(text: str) -> str:
    """Text in which nothing is markup but code between backticks."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if number % 2 else _MARKUP.sub(_escaped, part) for number, part in enumerate(parts))


def _escaped(found: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;"}.get(found[0], f"\\{found[0]}")
