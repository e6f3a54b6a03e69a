"""Known failures of a subject. They are strict: an entry that no longer holds fails the run.

``suite/expectations/<subject>.toml`` lists those of the suite's own harnesses; ``--expectations FILE`` adds others.
"""

import dataclasses
import fnmatch
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from suite.session.results import without_folders
from suite.session.severity import SEVERITIES

# What ``python -m suite.session.expect`` writes for keys that only a person can fill in.
TODO = "TODO"
FOLDER = Path(__file__).parents[1] / "expectations"

KINDS = {
    "ours": "a bug in the harness or the suite",
    "theirs": "a bug in the implementation",
    "never": "the implementation breaks the law by design",
    "disputed": "whose bug it is has not been settled",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expectation:
    """A known failure of one subject.

    Attributes:
      contract: id of the contract.
      kind: a key of ``KINDS``.
      severity: a key of ``SEVERITIES``; a failure of another severity is another failure.
      raises: type name of the exception.
      reason: why it fails, in one sentence.
      link: URL of an issue or a line of code.
      since: version in which the failure was first seen.
      case: case id or pattern; ``*`` matches any text and ``?`` any character.
      match: text that the error message contains, as a result row shows it: on one line, without folders.
      versions: versions of the subject that the entry applies to; see ``holds_for``.
    """

    contract: str
    kind: str
    severity: str
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
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity {self.severity!r}; expected one of {', '.join(SEVERITIES)}")
        names = [field.name for field in dataclasses.fields(self)]
        if undone := [name for name in names if getattr(self, name).startswith(TODO)]:
            raise ValueError(f"{', '.join(undone)}: still {TODO}; say why it fails, and where that can be seen")
        if empty := [name for name in ("contract", "raises", "reason", "since") if not getattr(self, name).strip()]:
            raise ValueError(f"{', '.join(empty)} must not be empty")
        if not self.link.startswith("https://"):
            raise ValueError(f"link {self.link!r}; expected the URL of an issue or a line of code")

    def __str__(self) -> str:
        return self.contract if self.case == "*" else f"{self.contract}[{self.case}]"

    def covers(self, contract: str, case: str) -> bool:
        """Return whether the entry applies to a case of a contract."""
        return contract == self.contract and covers_case(self.case, case)

    def explains(self, raised: str, text: str, severity: str) -> bool:
        """Return whether an exception of type ``raised`` with message ``text`` and this severity is this failure."""
        return raised == self.raises and severity == self.severity and (self.match in text or self.match in shown(text))

    @property
    def failure(self) -> str:
        """The failure that is expected, in words."""
        return f"{self.raises}, {self.severity}{f', with {self.match!r} in its text' if self.match else ''}"


def covers_case(pattern: str, case: str) -> bool:
    """Return whether a pattern covers a case; ``*`` matches any text and ``?`` any character."""
    return fnmatch.fnmatchcase(case, pattern.replace("[", "[[]"))


def shown(text: str) -> str:
    """Return the text of an error as result rows show it: on one line, without folders."""
    return without_folders(" ".join(text.split()))


def read(file: Path, version: str) -> tuple[Expectation, ...]:
    """Read the expectations in a file that apply to a version of its subject; none if the file does not exist.

    Raises:
      ValueError: an entry has an unknown, missing or invalid key; the message names the file and the contract.
    """
    if not file.is_file():
        return ()
    entries = tomllib.loads(file.read_text(encoding="utf-8"))
    if unknown := sorted(entries.keys() - {"expect"}):
        raise ValueError(f"{file}: unknown tables {unknown}; start each entry with [[expect]]")
    expected = [_entry(file, entry) for entry in entries.get("expect", [])]
    return tuple(entry for entry in expected if holds_for(entry.versions, version))


def holds_for(versions: str, version: str) -> bool:
    """Return whether ``versions`` includes a version: PEP 440 specifiers (``>=5.4,<5.6``) or a glob (``15a9616*``)."""
    try:
        return Version(version) in SpecifierSet(versions, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return fnmatch.fnmatchcase(version, versions)


def find_problems(expected: Sequence[Expectation], rows: Iterable[Mapping[str, Any]], areas: set[str]) -> list[str]:
    """Find the expectations of a subject that a run shows to be wrong.

    Args:
      expected: the subject's expectations.
      rows: the subject's result rows.
      areas: areas that were run completely; there, an expectation that matches no row is an error.

    Returns:
      one message per problem.
    """
    outcomes = {(row["contract"], row["case"]): row["outcome"] for row in rows}
    problems = []
    for entry in expected:
        own = {outcomes[case] for case in outcomes if entry.covers(*case)}
        if own <= {"absent", "unavailable"} and own:
            problems.append(f"{entry}: not run, because the subject lacks a capability that the contract needs")
        elif not own and entry.contract.partition(".")[0] in areas:
            problems.append(f"{entry}: no such contract or case")
    ambiguous = [case for case in outcomes if len([entry for entry in expected if entry.covers(*case)]) > 1]
    return [*problems, *(f"{contract}[{case}]: covered by several entries" for contract, case in ambiguous)]


def _entry(file: Path, entry: dict[str, str]) -> Expectation:
    try:
        return Expectation(**entry)
    except (TypeError, ValueError, AttributeError) as error:
        reason = str(error).removeprefix("Expectation.__init__() ")
        raise ValueError(f"{file}: {entry.get('contract', 'an entry')}: {reason}") from error
