"""Markdown: escaped text, links, tables, and parts of a page between markers."""

import re
from collections.abc import Sequence

# Characters that Markdown may read as markup; an underscore between letters is not markup.
_MARKUP = re.compile(r"[\\`*\[\]<>&~]|(?<![^\W_])_|_(?![^\W_])")
_ALIGNED = 60
_CODE = re.compile(r"(?<!`)`[^`]+`(?!`)")


def plain(text: str) -> str:
    """Return text on one line, escaped except for `code` between backticks."""
    text = " ".join(text.split())
    between = [_MARKUP.sub(_escaped, part) for part in _CODE.split(text)]
    code = [*_CODE.findall(text), ""]
    return "".join(part for pair in zip(between, code, strict=True) for part in pair)


def link(text: str, url: str) -> str:
    """Return a link; characters that would end it early are encoded in the URL."""
    encoded = re.sub(r"[\s()<>\\]", lambda match: f"%{ord(match[0]):02X}", url)
    return f"[{text}]({encoded})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; columns are padded in the source, except those with long cells.

    Args:
      head: one title per column, as Markdown.
      rows: the cells of each row, as Markdown; a `|` in them is escaped.
    """
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    longest = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    widths = [max(width, 3) if width <= _ALIGNED else 3 for width in longest]
    first, *others = [_line([f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)]) for line in lines]
    return [first, _line(["-" * width for width in widths]), *others]


def between(page: str, name: str, part: str, *, file: str) -> str:
    """Return a page with ``part`` between its lines ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
      ValueError: one of these lines is missing or duplicated, or they are in the wrong order.
    """
    lines = page.split("\n")
    first, last = (_only(lines, marker, file) for marker in (f"<!-- {name} -->", f"<!-- /{name} -->"))
    if last < first:
        raise ValueError(f"{file}:{last + 1}: expected <!-- {name} --> before <!-- /{name} -->, found it after")
    return "\n".join([*lines[: first + 1], part.strip("\n"), *lines[last:]])


def _only(lines: Sequence[str], marker: str, file: str) -> int:
    """Return the index of the only line that is the marker."""
    numbers = [number for number, line in enumerate(lines) if line.strip() == marker]
    if len(numbers) != 1:
        where = f" in lines {', '.join(str(number + 1) for number in numbers)}" if numbers else ""
        raise ValueError(f"{file}: expected one line {marker}, found {len(numbers)}{where}; add or remove it")
    return numbers[0]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(match: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(match[0], f"\\{match[0]}")
