"""Text for people: long lists shortened, sizes in bytes."""

MAX_LINES = 20


def shorten(lines: list[str]) -> list[str]:
    """At most 20 lines, then how many more there are."""
    more = len(lines) - MAX_LINES
    return lines if more <= 0 else [*lines[:MAX_LINES], f"  ... and {more} more"]


def format_bytes(number: int) -> str:
    """Bytes for a reader: ``1.5 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= 0.99995 * size:  # what would be rounded up to a thousand of the smaller unit
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
