"""Assertions about loading one of PaliGemma's public releases: it loads exactly, or the load is refused."""

from typing import Any

import numpy as np
import pytest

from fixtures.params import Params
from fixtures.specs import ModelSpec
from suite.subjects.marks import run_marked
from suite.subjects.protocol import Subject
from suite.writing.asserts import Mention, assert_same_bits, refused
from suite.writing.layouts import Outcome

# The reason why a case is absent.
NO_ERROR = "accepted: there is no error to judge; whether it may be accepted is another law's question"


def assert_landed(loaded: Params, written: Params) -> None:
    """Assert that every written parameter has the same bits in the model, after a cast to float32."""
    __tracebackhide__ = True
    assert_same_bits({path: loaded[path] for path in written if path in loaded}, as_float32(written))


def as_float32(params: Params) -> Params:
    """Cast every parameter to float32, the dtype of the loaded models."""
    return {path: array.astype(np.float32) for path, array in params.items()}


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


def assert_refused(subject: Subject, model: ModelSpec, source: dict[str, Any], *mentions: str) -> None:
    """Assert that the load fails with an error that names the source's path and all ``mentions``."""
    __tracebackhide__ = True
    with refused(source["path"], *mentions):
        subject.load(model, source, seed=0)
