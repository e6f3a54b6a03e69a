"""Subjects in other processes: how much memory one may take, and several that train together."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from suite.subjects.process.elsewhere import Elsewhere, elsewhere
from suite.subjects.protocol import Subject

# Bytes that a load may take beside its result: the arrays that are read at the moment, and what they are read into.
WINDOW = 160_000_000


@contextmanager
def joined(subject: Subject, processes: int) -> Iterator[list[Elsewhere]]:
    """As many processes with one device each, joined."""
    with ExitStack() as stack:
        members = [stack.enter_context(elsewhere(subject)) for _ in range(processes)]
        coordinator = f"127.0.0.1:{_free_port()}"
        for process_id, member in enumerate(members):
            member.start("join", coordinator, processes, process_id)
        for member in members:
            member.result()
        yield members


def together(members: list[Elsewhere], operation: str, *args: Any, **kwargs: Any) -> list[Any]:
    """What an operation gives in every process. All start before one is waited for, as they wait for each other."""
    for member in members:
        member.start(operation, *args, **kwargs)
    return [member.result() for member in members]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
