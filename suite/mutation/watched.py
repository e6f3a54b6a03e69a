"""A harness, given by its path: the reference, whose functions note that they are entered (``reach.py``)."""

from typing import Any

from suite.mutation.reach import watch

_first = watch.renew()
NAME: str = _first.NAME
TRAITS: tuple[str, ...] = _first.TRAITS


def __getattr__(operation: str) -> Any:
    return getattr(watch.copy, operation)
