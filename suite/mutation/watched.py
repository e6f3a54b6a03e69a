"""A harness that is given by its path: the reference with a recording call in every function (see ``reach.py``)."""

from typing import Any

from suite.mutation.reach import watch

_first = watch.renew()
NAME: str = _first.NAME
TRAITS: tuple[str, ...] = _first.TRAITS


def __getattr__(operation: str) -> Any:
    return getattr(watch.copy, operation)
