"""Subject processes joined into one distributed jax job."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from suite.subjects.process.elsewhere import Elsewhere, elsewhere
from suite.subjects.protocol import Subject


@contextmanager
def joined(subject: Subject, processes: int) -> Iterator[list[Elsewhere]]:
    """Start ``processes`` processes with one device each and join them."""
    with ExitStack() as stack:
        members = [stack.enter_context(elsewhere(subject)) for _ in range(processes)]
        coordinator = f"127.0.0.1:{_free_port()}"
        for process_id, member in enumerate(members):
            member.start("join", coordinator, processes, process_id)
        for member in members:
            member.result()
        yield members


def in_all(members: list[Elsewhere], operation: str, *args: Any, **kwargs: Any) -> list[Any]:
    """Call an operation in every process and return the results.

    All calls start before the first result is awaited, since the processes wait for each other.
    """
    for member in members:
        member.start(operation, *args, **kwargs)
    return [member.result() for member in members]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
