"""Contracts: laws with a stable id ``area.fact``, one sentence, a source, and the capabilities they need.

A contract is the function ``test_<fact>`` in ``contracts/test_<area>.py``; its docstring is the law. There is no
central list: the id comes from the file and function names, and the decorator stores the rest on the function.
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
    """A law.

    Attributes:
      id: ``area.fact``.
      law: the sentence that states it.
      source: where it comes from.
      needs: capabilities that a subject must declare for the contract to run.
    """

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
      needs: required capabilities; the outcome of a subject that lacks one is ``absent``.

    Raises:
      ValueError: an unknown capability, no law or no source, or a function that cannot be a contract.
    """
    if unknown := sorted(set(needs) - set(CAPABILITIES)):
        raise ValueError(f"unknown capabilities {unknown}; expected some of {sorted(CAPABILITIES)}")

    def mark(test: Test) -> Test:
        setattr(test, _ATTRIBUTE, _describe(test, source, needs))
        return cast("Test", pytest.mark.contract(test))

    return mark


def contract_of(test: Callable[..., object]) -> Contract | None:
    """Return the contract of a test function, or None if it is not a contract."""
    attribute = getattr(test, _ATTRIBUTE, None)
    return attribute if isinstance(attribute, Contract) else None


def _describe(test: Callable[..., object], source: str, needs: tuple[str, ...]) -> Contract:
    module = test.__module__.rpartition(".")[2]
    area, fact = module.removeprefix("test_"), test.__name__.removeprefix("test_")
    law = " ".join((test.__doc__ or "").split())
    if not law or not source:
        raise ValueError(f"{area}.{fact}: a contract needs a docstring that states its law, and a source")
    if test.__name__ == fact or not {"subject", "loads"} & inspect.signature(test).parameters.keys():
        raise ValueError(f"{area}.{fact}: a contract is a function test_<fact> that takes a subject, or its loads")
    if hasattr(test, "hypothesis") and any(mark.name == "parametrize" for mark in getattr(test, "pytestmark", [])):
        # Hypothesis would derive the examples from the test id, which contains the subject's name.
        raise ValueError(
            f"{area}.{fact}: draw the cases instead: a parametrized property test gives subjects different examples"
        )
    return Contract(id=f"{area}.{fact}", law=law, source=source, needs=needs)
