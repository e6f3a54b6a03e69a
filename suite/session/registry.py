"""Contracts: laws with a stable id ``area.fact``, one sentence, a source, and the capabilities they need.

A contract is the function ``test_<fact>`` in ``contracts/test_<area>.py``; its docstring is the law. Nothing is
registered twice: the id is the place, and what the decorator adds travels with the function.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import TypeVar, cast

import pytest

from suite.subjects.capabilities import CAPABILITIES

Test = TypeVar("Test", bound=Callable[..., object])

_ATTRIBUTE = "_pi0_compat_contract"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contract:
    """A law: id, sentence, where it comes from, and what a subject needs to be asked."""

    id: str
    law: str
    source: str
    needs: tuple[str, ...]

    @property
    def area(self) -> str:
        """The first part of the id."""
        return self.id.partition(".")[0]


def contract(*, source: str, needs: tuple[str, ...]) -> Callable[[Test], Test]:
    """Make a test function a contract.

    Args:
      source: the paper, line of code, bug row or issue that the law comes from.
      needs: capabilities without which a subject is not asked; its outcome is ``absent``.
    """
    if unknown := sorted(set(needs) - set(CAPABILITIES)):
        raise ValueError(f"unknown capabilities {unknown}; known ones are {sorted(CAPABILITIES)}")

    def mark(test: Test) -> Test:
        setattr(test, _ATTRIBUTE, _describe(test, source, needs))
        return cast("Test", pytest.mark.contract(test))

    return mark


def contract_of(test: Callable[..., object]) -> Contract | None:
    """The contract that a test function is, if it is one."""
    found = getattr(test, _ATTRIBUTE, None)
    return found if isinstance(found, Contract) else None


def _describe(test: Callable[..., object], source: str, needs: tuple[str, ...]) -> Contract:
    module = test.__module__.rpartition(".")[2]
    area, fact = module.removeprefix("test_"), test.__name__.removeprefix("test_")
    law = " ".join((test.__doc__ or "").split())
    if not law or not source:
        raise ValueError(f"{area}.{fact}: a contract states its law in its docstring, where it comes from in source")
    if test.__name__ == fact or "subject" not in inspect.signature(test).parameters:
        raise ValueError(f"{area}.{fact}: a contract is a function test_<fact> that takes a subject")
    if hasattr(test, "hypothesis") and any(mark.name == "parametrize" for mark in getattr(test, "pytestmark", [])):
        # Hypothesis would derive the examples from the test's id, which has the subject's name in it.
        raise ValueError(f"{area}.{fact}: draw the cases; a parametrised property shows subjects different examples")
    return Contract(id=f"{area}.{fact}", law=law, source=source, needs=needs)
