"""What several areas ask of a PaliGemma that was loaded: that it landed in the model as it was written."""

from typing import Any

import numpy as np

from fixtures.params import Params
from fixtures.specs import ModelSpec
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused


def assert_landed(found: Params, written: Params) -> None:
    """Every parameter that was written has the same bits in the model, cast to float32."""
    __tracebackhide__ = True
    assert_same_bits({path: found[path] for path in written}, as_float32(written))


def as_float32(params: Params) -> Params:
    """What the model holds of parameters in any precision."""
    return {path: array.astype(np.float32) for path, array in params.items()}


def assert_refused(subject: Subject, model: ModelSpec, source: dict[str, Any], *mentions: str) -> None:
    """The load fails, and the error names the source's path and all of ``mentions``."""
    __tracebackhide__ = True
    with refused(source["path"], *mentions):
        subject.load(model, source, seed=0)
