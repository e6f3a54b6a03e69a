"""Assertions about loading one of PaliGemma's public releases: it loads exactly, or the load is refused."""

from typing import Any

import numpy as np

from fixtures.params import Params
from fixtures.specs import ModelSpec
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused


def assert_landed(loaded: Params, written: Params) -> None:
    """Assert that every written parameter has the same bits in the model, after a cast to float32."""
    __tracebackhide__ = True
    assert_same_bits({path: loaded[path] for path in written if path in loaded}, as_float32(written))


def as_float32(params: Params) -> Params:
    """Cast every parameter to float32, the dtype of the loaded models."""
    return {path: array.astype(np.float32) for path, array in params.items()}


def assert_refused(subject: Subject, model: ModelSpec, source: dict[str, Any], *mentions: str) -> None:
    """Assert that the load fails with an error that names the source's path and all ``mentions``."""
    __tracebackhide__ = True
    with refused(source["path"], *mentions):
        subject.load(model, source, seed=0)
