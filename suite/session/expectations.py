"""Known failures of a subject, strict: each was looked at, and one that no longer holds breaks the run.

``suite/expectations/<subject>.toml`` has those of the suite's own harnesses; ``--expectations FILE`` names others.
"""

import dataclasses
import fnmatch
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

FOLDER = Path(__file__).parents[1] / "expectations"

KINDS = {
    "ours": "the harness or the suite is at fault",
    "theirs": "the implementation is at fault",
    "never": "the implementation does not mean to keep the law",
    "disputed": "who is at fault is not agreed",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expectation:
    """One subject is known to break one contract, on some of its cases, in one way."""

    contract: str
    kind: str
    raises: str
    reason: str
    link: str
    since: str
    case: str = "*"
    match: str = ""
    versions: str = "*"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        if empty := [name for name in ("contract", "raises", "reason", "since") if not getattr(self, name).strip()]:
            raise ValueError(f"{', '.join(empty)} must say something")
        if not self.link.startswith("https://"):
            raise ValueError(f"link {self.link!r}; expected the URL of an issue or a line of code")

    def __str__(self) -> str:
        return self.contract if self.case == "*" else f"{self.contract}[{self.case}]"

    def is_of(self, contract: str, case: str) -> bool:
        """Whether it speaks of a case of a contract. ``*`` and ``?`` stand for any text and any letter."""
        return contract == self.contract and fnmatch.fnmatchcase(case, self.case.replace("[", "[[]"))

    def explains(self, raised: str, text: str) -> bool:
        """Whether it is this failure: the exception's type, and a part of its text."""
        return raised == self.raises and self.match in text


def read(file: Path, version: str) -> tuple[Expectation, ...]:
    """The expectations of a file that hold for a version of its subject; none if there is no such file.

    Raises:
      ValueError: an entry has an unknown key or lacks one, or says what cannot be; the message has file and contract.
    """
    if not file.is_file():
        return ()
    entries = tomllib.loads(file.read_text(encoding="utf-8"))
    if unknown := sorted(entries.keys() - {"expect"}):
        raise ValueError(f"{file}: unknown tables {unknown}; entries begin with [[expect]]")
    expected = [_entry(file, entry) for entry in entries.get("expect", [])]
    return tuple(entry for entry in expected if holds_for(entry.versions, version))


def holds_for(versions: str, version: str) -> bool:
    """Whether a version is one of ``versions``: PEP 440 specifiers (``>=5.4,<5.6``) or a glob (``15a9616*``)."""
    try:
        return Version(version) in SpecifierSet(versions, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return fnmatch.fnmatchcase(version, versions)


def complaints(expected: Sequence[Expectation], rows: Iterable[Mapping[str, Any]], areas: set[str]) -> list[str]:
    """What is wrong with the expectations of a subject, after a run.

    Args:
      expected: its expectations.
      rows: its rows.
      areas: those of which every case was run, so that one without a row does not exist.
    """
    outcomes = {(row["contract"], row["case"]): row["outcome"] for row in rows}
    found = []
    for entry in expected:
        own = {outcomes[case] for case in outcomes if entry.is_of(*case)}
        if own <= {"absent", "unavailable"} and own:
            found.append(f"{entry}: the subject is not asked, as it lacks what the contract needs")
        elif not own and entry.contract.partition(".")[0] in areas:
            found.append(f"{entry}: there is no such contract or case")
    several = [case for case in outcomes if len([entry for entry in expected if entry.is_of(*case)]) > 1]
    return [*found, *(f"{contract}[{case}]: several entries speak of it" for contract, case in several)]


def _entry(file: Path, entry: dict[str, str]) -> Expectation:
    try:
        return Expectation(**entry)
    except (TypeError, ValueError, AttributeError) as error:
        about = str(error).removeprefix("Expectation.__init__() ")
        raise ValueError(f"{file}: {entry.get('contract', 'an entry')}: {about}") from error
