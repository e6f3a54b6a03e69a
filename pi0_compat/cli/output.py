"""What a command prints: its result to stdout, as text or as JSON, everything else to stderr."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Refusal(ValueError):
    """A wrong option or input; the message says how to fix it."""


class Output:
    """Print a command's result, errors, warnings and progress.

    Attributes:
      as_json: whether the result is printed as JSON.
    """

    def __init__(self, command: str, *, as_json: bool) -> None:
        self.as_json = as_json
        self._command = command

    def give(self, document: Mapping[str, Any], text: str) -> None:
        """Print the result, once: the text, or with ``--json`` the document (plain data)."""
        if self.as_json:
            _print_json({"command": self._command, **document})
        else:
            print(text)

    def fail(self, message: str) -> None:
        """Print an error to stderr, and with ``--json`` as the document too."""
        if self.as_json:
            _print_json({"command": self._command, "error": message})
        print(f"pi0-compat {self._command}: {message}", file=sys.stderr)

    def warn(self, message: str) -> None:
        """Print a warning to stderr; the document has the same fact."""
        print(f"warning: {message}", file=sys.stderr)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a progress bar of ``total`` bytes on a terminal; yield a callback that takes the bytes done since."""
        if not sys.stderr.isatty():
            yield lambda done: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(title, total=total)
            yield lambda done: bars.advance(task, done)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 array``, ``2 arrays``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _print_json(document: Mapping[str, Any]) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))
