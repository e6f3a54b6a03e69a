"""Files of expectations as text: their entries in order, with comments, so that one changes and the rest stays."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_START = "[[expect]]\n"
_KEYS = ("contract", "case", "kind", "severity", "raises", "match", "reason", "link", "since", "versions")
_DEFAULTS = {"case": "*", "match": "", "versions": "*"}


@dataclass(frozen=True)
class Chunk:
    """An entry.

    Attributes:
      text: its lines after ``[[expect]]``, with the comments that follow.
      entry: its keys and values.
    """

    text: str
    entry: Mapping[str, str]

    @property
    def name(self) -> str:
        """The contract, with the case if it names one."""
        case = self.entry.get("case", "*")
        return self.entry["contract"] if case == "*" else f"{self.entry['contract']}[{case}]"


def chunk_of(entry: Mapping[str, str], comments: str = "") -> Chunk:
    """Return an entry as text, without keys that have their default."""
    kept = {key: entry[key] for key in _KEYS if key in entry and entry[key] != _DEFAULTS.get(key)}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in kept.items()]
    return Chunk("".join([*lines, "\n", *([comments, "\n"] if comments else [])]), kept)


def comments_of(chunk: Chunk) -> str:
    """Return the comments within and after an entry."""
    lines = [line for line in chunk.text.splitlines(keepends=True) if line.startswith("#")]
    return "".join(lines)


def parse(file: Path) -> tuple[str, list[Chunk]]:
    """Return what comes before the first entry, and the entries; both empty if the file does not exist.

    Raises:
      ValueError: an entry is no TOML, or has no contract.
    """
    if not file.is_file():
        return "", []
    head, *texts = file.read_text(encoding="utf-8").split(_START)
    chunks = []
    for number, text in enumerate(texts, start=1):
        try:
            entry = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{file}: entry {number}: {error}") from error
        if "contract" not in entry:
            raise ValueError(f"{file}: entry {number}: expected a contract, found {', '.join(entry) or 'nothing'}")
        chunks.append(Chunk(text, entry))
    return head, chunks


def render(head: str, chunks: Sequence[Chunk]) -> str:
    """Return the text of a file."""
    texts = [head.rstrip(), *(f"{_START}{chunk.text.rstrip()}" for chunk in chunks)]
    return "\n\n".join(text for text in texts if text) + "\n"
