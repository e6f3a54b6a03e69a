"""``docs/bugs.md``: the catalog of bugs, each with the faults that rebuild it and the contracts that catch those."""

import re
from collections.abc import Iterable, Mapping, Sequence

from suite.docs.catalog import EVIDENCE, Bug, Catalog, Rule, cited_anchors, read_catalog
from suite.docs.laws import all_contracts
from suite.faults import all_faults
from suite.faults.fault import Fault
from suite.session.registry import Contract

_INTRODUCTION = """\
# Bugs that users met

<!-- Written by `python -m suite.docs` from docs/bugs.toml, the faults and the contracts. Edit those. -->

What went wrong for users of openpi and of its ports when they loaded, saved, trained or converted checkpoints. The
contracts come from this list; code and contracts cite it as `docs/bugs.md#c1`. Of {bugs} bugs, {rebuilt} are rebuilt as
faults, patches of the library that the contracts have to catch; the others say why they are not.

Lines of openpi are those of its commit [15a9616](https://github.com/Physical-Intelligence/openpi/tree/15a9616). Links
show where a bug was met; it may be fixed there by now.

{areas}
"""
_RULES = """\
## Rules for tests

Five rules follow from these bugs. Contracts cite them as `docs/bugs.md#rule-1`."""
_ID = re.compile(r"\b[A-Z]\d{1,2}\b")
_GITHUB = re.compile(r"https://github\.com/([^/]+/[^/]+)/(issues|pull|commit|blob)/(.+)")


def page() -> str:
    """Return the text of ``docs/bugs.md``."""
    return render(read_catalog(), list(all_faults().values()), list(all_contracts().values()))


def render(catalog: Catalog, faults: Sequence[Fault], contracts: Sequence[Contract]) -> str:
    """Return the page of a catalog.

    Args:
      catalog: rules and bugs.
      faults: those that rebuild bugs, among others.
      contracts: those whose sources cite bugs, among others.
    """
    rebuilt = {id_: [fault for fault in faults if id_ in fault.bugs] for id_ in catalog.bugs}
    citing = _citing(contracts)
    areas = "\n".join(
        f"* [{letter}: {title}](#{slug(f'{letter}: {title}')})" for letter, title in catalog.areas.items()
    )
    count = sum(bool(found) for found in rebuilt.values())
    parts = [_INTRODUCTION.format(bugs=len(catalog.bugs), rebuilt=count, areas=areas), _RULES]
    parts += [_rule(rule, catalog, citing.get(f"rule-{rule.id}", [])) for rule in catalog.rules]
    for letter, title in catalog.areas.items():
        parts.append(f"\n## {letter}: {title}")
        of_area = [bug for bug in catalog.bugs.values() if bug.id[0] == letter]
        parts += [_bug(bug, catalog, rebuilt[bug.id], citing.get(bug.id.lower(), [])) for bug in of_area]
    return "\n".join(parts) + "\n"


def _citing(contracts: Iterable[Contract]) -> Mapping[str, list[str]]:
    """The ids of the contracts that cite an anchor, by anchor."""
    found: dict[str, list[str]] = {}
    for contract in contracts:
        for anchor in cited_anchors(contract.source):
            found.setdefault(anchor, []).append(contract.id)
    return found


def _rule(rule: Rule, catalog: Catalog, citing: Sequence[str]) -> str:
    lines = [f"\n### Rule {rule.id}\n", f"{rule.demand}\n", f"* Why: {_linked(rule.why, catalog)}"]
    if rule.links:
        lines.append(f"* Where: {_links(rule.links)}")
    if citing:
        lines.append(f"* Cited by {_contracts(citing)}")
    return "\n".join(lines)


def _bug(bug: Bug, catalog: Catalog, faults: Sequence[Fault], citing: Sequence[str]) -> str:
    lines = [f"\n### {bug.id}\n", f"{_linked(bug.symptom, catalog, bug.id)}\n"]
    lines.append(f"* Evidence: {', '.join(EVIDENCE[each] for each in bug.evidence)}; {_links(bug.links)}")
    lines += [f"* Rebuilt by the fault `{fault.id}`, caught by {_contracts(fault.caught_by)}" for fault in faults]
    if bug.not_rebuilt:
        lines.append(f"* Not rebuilt: {_linked(bug.not_rebuilt, catalog, bug.id)}")
    named = {contract for fault in faults for contract in fault.caught_by}
    if others := [contract for contract in citing if contract not in named]:
        lines.append(f"* Also cited by {_contracts(others)}")
    return "\n".join(lines)


def _linked(text: str, catalog: Catalog, but: str = "") -> str:
    """A text whose ids of bugs are links, but for the id of the bug that it belongs to."""
    known = catalog.bugs.keys() - {but}
    return _ID.sub(lambda id_: f"[{id_[0]}](#{id_[0].lower()})" if id_[0] in known else id_[0], text)


def _links(urls: Iterable[str]) -> str:
    return ", ".join(f"[{label(url)}]({url})" for url in urls)


def label(url: str) -> str:
    """Return a short text for a URL: repository and number, commit, or file and line."""
    if not (found := _GITHUB.fullmatch(url)):
        return url.removeprefix("https://")
    repository, kind, rest = found.groups()
    name = "openpi" if repository == "Physical-Intelligence/openpi" else repository
    if kind == "blob":
        file, _, lines = rest.rpartition("/")[2].partition("#")
        return f"{name} {file}" + f":{lines.replace('L', '')}" * bool(lines)
    return f"{name} {rest[:7]}" if kind == "commit" else f"{name} #{rest}"


def _contracts(ids: Iterable[str]) -> str:
    """Contracts as links to their headings in ``contracts.md``."""
    return ", ".join(f"[`{id_}`](contracts.md#{slug(id_)})" for id_ in ids)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and Markdown processors make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
