"""What a run changes in a subject's expectations: an entry for each contract and cause, and none without a failure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from suite.session.causes import case_patterns, cause, error_text, shared_text
from suite.session.expectation_files import Chunk, chunk_of, comments_of
from suite.session.expectations import TODO, covers_case, holds_for

Row = Mapping[str, Any]
_RAN = ("pass", "known", "fail", "fixed", "error")
_FAILED = ("known", "fail")


@dataclass
class Revision:
    """The entries after a run.

    Attributes:
      chunks: all entries, in the order of the file.
      new: entries of failures that no entry covered.
      changed: entries that replace one whose failure is another now, or that no longer covers all of its cases.
      dropped: entries without a failure.
      unasked: entries that the run says nothing about; they stay.
    """

    chunks: list[Chunk] = field(default_factory=list)
    new: list[Chunk] = field(default_factory=list)
    changed: list[Chunk] = field(default_factory=list)
    dropped: list[Chunk] = field(default_factory=list)
    unasked: list[Chunk] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        """Whether anything has to change."""
        return bool(self.new or self.changed or self.dropped)

    @property
    def kept(self) -> int:
        """The number of entries that stay as they are."""
        return len(self.chunks) - len(self.new) - len(self.changed)


def revise(chunks: Sequence[Chunk], rows: Sequence[Row], *, version: str, whole: bool) -> Revision:
    """Compare entries with the rows of their subject.

    Args:
      chunks: the entries.
      rows: the subject's rows.
      version: the subject's version; entries of others stay as they are.
      whole: whether the rows have all contracts.
    """
    revision, left = Revision(), [row for row in rows if row["outcome"] in _RAN]
    asked = {row["contract"] for row in rows}
    for chunk in chunks:
        if not holds_for(chunk.entry.get("versions", "*"), version):
            revision.chunks.append(chunk)
            continue
        own = [row for row in left if _covers(chunk, row)]
        left = [row for row in left if not _covers(chunk, row)]
        if own and all(row["outcome"] == "known" for row in own):
            revision.chunks.append(chunk)
        elif not own and not whole and chunk.entry["contract"] not in asked:
            revision.unasked.append(chunk)
            revision.chunks.append(chunk)
        elif replaced := _split(chunk, own, rows):
            revision.changed += replaced
            revision.chunks += replaced
        else:
            revision.dropped.append(chunk)
    for group in _groups(row for row in left if row["outcome"] in _FAILED):
        made = _entries(group, rows, {"kind": "theirs", "reason": TODO, "link": TODO, "since": version or TODO})
        revision.new += made
        for chunk in made:
            revision.chunks.insert(_place(revision.chunks, chunk), chunk)
    return revision


def _split(chunk: Chunk, own: Sequence[Row], rows: Sequence[Row]) -> list[Chunk]:
    """Return the entries that replace one: the reason of a failure that is still the same stays, another is a TODO."""
    replaced: list[Chunk] = []
    failed = [row for row in own if row["outcome"] in _FAILED]
    same = [row for row in failed if _is_same(chunk, row)]
    for severity in dict.fromkeys(row["severity"] for row in same):
        group = [row for row in same if row["severity"] == severity]
        replaced += [
            chunk_of({**chunk.entry, "severity": severity, "case": case}) for case in _cases(group, rows, chunk)
        ]
    for group in _groups(row for row in failed if not _is_same(chunk, row)):
        reason = chunk.entry.get("reason", "")
        was = reason if reason.startswith(TODO) else f"{TODO}: was: {reason}"
        replaced += _entries(group, rows, {**chunk.entry, "reason": was})
    if replaced and (comments := comments_of(chunk)):
        replaced[-1] = chunk_of(replaced[-1].entry, comments)
    return replaced


def _groups(failed: Iterable[Row]) -> list[list[Row]]:
    """Return the failures of each contract that have the same severity and the same likely cause."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in failed:
        groups.setdefault((row["contract"], row["severity"], cause(row)), []).append(row)
    return list(groups.values())


def _entries(group: Sequence[Row], rows: Sequence[Row], rest: Mapping[str, str]) -> list[Chunk]:
    """Return the entries of failures with one cause: one, unless no pattern covers their cases alone."""
    first = group[0]
    failure = {"contract": first["contract"], "severity": first["severity"], "raises": first["raised"]}
    return [chunk_of({**rest, **failure, "match": shared_text(group), "case": case}) for case in _cases(group, rows)]


def _cases(group: Sequence[Row], rows: Sequence[Row], chunk: Chunk | None = None) -> list[str]:
    """Return the pattern that an entry has, if it covers the group alone; else patterns that do."""
    cases = [row["case"] for row in group]
    contract = group[0]["contract"]
    others = [row["case"] for row in rows if row["contract"] == contract and row["outcome"] in _RAN]
    others = [case for case in others if case not in cases]
    if chunk and not any(covers_case(chunk.entry.get("case", "*"), case) for case in others):
        return [chunk.entry.get("case", "*")]
    return case_patterns(cases, others)


def _covers(chunk: Chunk, row: Row) -> bool:
    return chunk.entry["contract"] == row["contract"] and covers_case(chunk.entry.get("case", "*"), row["case"])


def _is_same(chunk: Chunk, row: Row) -> bool:
    """Return whether a failure has the type and the text of an entry, whatever its severity."""
    if row["outcome"] == "known":
        return True
    match, message = chunk.entry.get("match", ""), " ".join(row["message"].split())
    return chunk.entry.get("raises") == row["raised"] and (match in message or match in error_text(row))


def _place(chunks: Sequence[Chunk], chunk: Chunk) -> int:
    """Return where an entry goes: after those of its contract, else before the first of a later contract."""
    contract = chunk.entry["contract"]
    own = [place for place, other in enumerate(chunks) if other.entry["contract"] == contract]
    later = [place for place, other in enumerate(chunks) if other.entry["contract"] > contract]
    return own[-1] + 1 if own else later[0] if later else len(chunks)
