"""Where a run shows what it does and prints what came of it."""

import os
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def console(width: int) -> Console:
    """As wide as the terminal, or as some tables are where there is none."""
    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=width)


def progress() -> Progress:
    """Bars that go away."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
