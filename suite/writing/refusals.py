"""Assertions about the refusal of a load: that there is one, and what it says."""

import pytest

from suite.subjects.marks import run_marked
from suite.writing.asserts import Mention, refused
from suite.writing.layouts import Outcome

# The reason why a case is absent.
NO_ERROR = "accepted: there is no error to judge; whether it may be accepted is another law's question"


def assert_rejected(outcome: Outcome) -> None:
    """Assert that the load raised an error of its own."""
    __tracebackhide__ = True
    assert_names(outcome)


def assert_names(outcome: Outcome, *mentions: Mention) -> None:
    """Assert that the load raised an error with all ``mentions``; if it was accepted, there is no error to judge.

    Whether it may be accepted is the fact of another law; the case counts as absent here, not as a second failure.
    """
    __tracebackhide__ = True
    if mentions and outcome.error is None:
        pytest.skip(NO_ERROR)
    with refused(*mentions):
        run_marked(outcome.operation, outcome.loaded)
