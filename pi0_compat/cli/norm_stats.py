"""What commands print about norm stats."""

from collections.abc import Iterator, Sequence
from typing import Any

from pi0_compat.norm_stats.flaws import Flaw
from pi0_compat.norm_stats.found import Found


def describe(found: Found) -> str:
    """Return one file of norm stats in a line: sizes, and which normalizations it serves."""
    if found.problem:
        return f"{found.label}: cannot be read: {found.problem}"
    sizes = ", ".join(f"{name} {one.size}" for name, one in found.stats.items()) or "no statistics"
    if found.modes:
        ways = ", ".join(f"{name} by {mode}" for name, mode in found.modes.items())
        return f"{found.label}: {sizes}; lerobot normalizes {ways}"
    return f"{found.label}: {sizes}; for {' and '.join(found.serves) or 'no normalization'}"


def flaw_lines(flaws: Sequence[Flaw]) -> Iterator[str]:
    """Yield a line for each flaw, the wrong ones marked."""
    for flaw in flaws:
        yield f"{'!' if flaw.is_wrong else ' '} {f'{flaw.array}: ' if flaw.array else ''}{flaw.words}"


def document(found: Found, flaws: Sequence[Flaw]) -> dict[str, Any]:
    """Return a file of norm stats as plain data."""
    return {
        "name": found.name,
        "file": found.label,
        "sizes": {name: one.size for name, one in found.stats.items()},
        "serves": list(found.serves),
        "modes": found.modes,
        "problem": found.problem,
        "flaws": [flaw._asdict() for flaw in flaws],
    }
