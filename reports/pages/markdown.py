"""Text as Markdown that shows just this text, tables, and a part of a page between markers."""

import re
from collections.abc import Sequence

# What Markdown reads as markup, wherever it stands; an underscore between letters is none.
_MARKUP = re.compile(r"[\\`*\[\]<>&~]|(?<![^\W_])_|_(?![^\W_])")
_ALIGNED = 60
_CODE = re.compile(r"(?<!`)`[^`]+`(?!`)")


def plain(text: str) -> str:
    """Text on one line in which nothing is markup but `code` between backticks, as laws and reasons write it."""
    text = " ".join(text.split())
    between = [_MARKUP.sub(_escaped, part) for part in _CODE.split(text)]
    code = [*_CODE.findall(text), ""]
    return "".join(part for pair in zip(between, code, strict=True) for part in pair)


def link(text: str, url: str) -> str:
    """A link; what would end it early is encoded in the URL."""
    encoded = re.sub(r"[\s()<>\\]", lambda found: f"%{ord(found[0]):02X}", url)
    return f"[{text}]({encoded})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, whose columns are aligned in the text too, but for those of long cells.

    Args:
      head: a title a column, Markdown.
      rows: as many cells each, Markdown; a `|` in them is none of the table's.
    """
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    longest = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    widths = [max(width, 3) if width <= _ALIGNED else 3 for width in longest]
    first, *others = [_line([f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)]) for line in lines]
    return [first, _line(["-" * width for width in widths]), *others]


def between(page: str, name: str, part: str, *, file: str) -> str:
    """A page with ``part`` between its lines ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
      ValueError: one of these lines is missing, stands there twice, or they come in the other order.
    """
    lines = page.split("\n")
    first, last = (_only(lines, marker, file) for marker in (f"<!-- {name} -->", f"<!-- /{name} -->"))
    if last < first:
        raise ValueError(f"{file}:{last + 1}: expected <!-- {name} --> before <!-- /{name} -->, found it after")
    return "\n".join([*lines[: first + 1], part.strip("\n"), *lines[last:]])


def _only(lines: Sequence[str], marker: str, file: str) -> int:
    """The number, from 0, of the one line that is a marker."""
    found = [number for number, line in enumerate(lines) if line.strip() == marker]
    if len(found) != 1:
        where = f" in lines {', '.join(str(number + 1) for number in found)}" if found else ""
        raise ValueError(f"{file}: expected one line {marker}, found {len(found)}{where}; add or remove it")
    return found[0]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(found: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(found[0], f"\\{found[0]}")
