"""What a command says: its result to stdout, as text or as JSON, everything else to stderr."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Refusal(ValueError):
    """The question or the input is wrong, and the message says how to put it right."""


class Output:
    """Where a command's words go.

    Attributes:
      as_json: whether the result is wanted as JSON.
    """

    def __init__(self, command: str, *, as_json: bool) -> None:
        self.as_json = as_json
        self._command = command

    def give(self, document: Mapping[str, Any], text: str) -> None:
        """The result, once: the text for a person, or the document, plain data, for a machine."""
        if self.as_json:
            _print_json({"command": self._command, **document})
        else:
            print(text)

    def fail(self, message: str) -> None:
        """What went wrong: on stderr, and with ``--json`` as the document too."""
        if self.as_json:
            _print_json({"command": self._command, "error": message})
        print(f"pi0-compat {self._command}: {message}", file=sys.stderr)

    def warn(self, message: str) -> None:
        """What a person should know and a machine finds in the document."""
        print(f"warning: {message}", file=sys.stderr)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar over so many bytes, on a terminal only; yields what is told how many more are done."""
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
    """A number of things: ``1 array``, ``2 arrays``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _print_json(document: Mapping[str, Any]) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))
