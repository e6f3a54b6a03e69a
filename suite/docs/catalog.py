"""The catalog of bugs as data, ``docs/bugs.toml``, and the citations of it: ``docs/bugs.md#c1, #c2``."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "docs" / "bugs.toml"
# How a bug can be known, in the words of the file, and as the page writes it.
EVIDENCE = {
    "reported": "reported by a user",
    "fixed": "fixed upstream",
    "reproduced": "reproduced by running the code",
    "read": "read in the code, not run",
    "inferred": "inferred",
}
_ID = re.compile(r"[A-Z]\d{1,2}")
# A whole citation, and an anchor of it. The path may be relative: a page links to bugs.md from its own folder.
_CITATION = re.compile(r"bugs\.md#[\w-]+(?:,\s+#[\w-]+)*")
_ANCHOR = re.compile(r"#([\w-]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bug:
    """A row of the catalog.

    Attributes:
      id: the letter of the area and a number, never given to another bug.
      symptom: what a user sees, and why.
      evidence: how the bug is known, keys of ``EVIDENCE``.
      links: URLs of issues, commits and lines.
      not_rebuilt: why no fault rebuilds it; empty if one does.
    """

    id: str
    symptom: str
    evidence: tuple[str, ...]
    links: tuple[str, ...]
    not_rebuilt: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What the bugs demand of every test: the demand, the reason, and URLs."""

    id: int
    demand: str
    why: str
    links: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """The whole file: titles of areas by their letter, rules, and bugs by their id."""

    areas: Mapping[str, str]
    rules: tuple[Rule, ...]
    bugs: Mapping[str, Bug]

    @property
    def anchors(self) -> frozenset[str]:
        """The anchors of the page that can be cited, such as ``a1`` and ``rule-1``."""
        return frozenset({id_.lower() for id_ in self.bugs} | {f"rule-{rule.id}" for rule in self.rules})


def read_catalog(file: Path = FILE) -> Catalog:
    """Read the catalog.

    Raises:
      ValueError: two bugs have the same id, an id has no area, or a row has no symptom, evidence or link.
      TypeError: a row has a field that no row has.
    """
    content: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    bugs = [Bug(**_tuples(row)) for row in content["bug"]]
    if twice := sorted({bug.id for bug in bugs if sum(other.id == bug.id for other in bugs) > 1}):
        raise ValueError(f"{file.name}: more than one row for {', '.join(twice)}")
    if wrong := [problem for bug in bugs for problem in _problems(bug, content["areas"])]:
        raise ValueError(f"{file.name}: " + "; ".join(wrong))
    rules = tuple(Rule(**_tuples(row)) for row in content["rule"])
    return Catalog(areas=content["areas"], rules=rules, bugs={bug.id: bug for bug in bugs})


def cited_anchors(text: str) -> list[str]:
    """Return the anchors of bugs.md that a text cites, as ``docs/bugs.md#c1, #c2``, whether or not they exist."""
    return [anchor for citation in _CITATION.findall(text) for anchor in _ANCHOR.findall(citation)]


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def _problems(bug: Bug, areas: Iterable[str]) -> list[str]:
    """What is wrong with a row."""
    checks = {
        "has no area": _ID.fullmatch(bug.id) and bug.id[0] in areas,
        "has no symptom that ends with a period": bug.symptom.endswith("."),
        "has no link, or one that is no URL": bug.links and all(link.startswith("https://") for link in bug.links),
        f"has no evidence, or evidence other than {', '.join(EVIDENCE)}": bug.evidence
        and set(bug.evidence) <= {*EVIDENCE},
    }
    return [f"{bug.id} {problem}" for problem, kept in checks.items() if not kept]
