"""What a law found wrong, read from the frames of the failed assertion, so that laws need not say it twice."""

import dataclasses
import re
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from suite.reproduce.errors import CannotReproduceError
from suite.session.severity import SEVERITIES, severity_of

_ACCEPTED = "accepted"


@dataclasses.dataclass(frozen=True)
class Accepted:
    """The law expected an error, and none was raised.

    Attributes:
      mentions: what the error had to name.
    """

    mentions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Different:
    """The law expected other values.

    Attributes:
      found: the arrays that the subject returned, by name.
      right: the arrays that the law expected.
      rtol, atol: the tolerance of the comparison; 0 for bit for bit.
    """

    found: Mapping[str, Any]
    right: Mapping[str, Any]
    rtol: float = 0.0
    atol: float = 0.0


Failure = Accepted | Different


def read_failure(error: BaseException) -> Failure:
    """Return what a failed law found wrong.

    Args:
      error: what the law raised, with its traceback.

    Raises:
      CannotReproduceError: it is no silent failure, or no assertion of the suite found it.
    """
    if (severity := severity_of(error)) != "silent":
        raise CannotReproduceError(
            f"is not silent but {severity} ({SEVERITIES[severity]}); only wrong values become a script, "
            "the rest is told in words"
        )
    for frame in _frames(error.__traceback__):
        if failure := _of_frame(frame, str(error)):
            return failure
    raise CannotReproduceError(
        "fails in an assertion of its own, whose values are unknown outside of it; "
        "write it with assert_same_bits, assert_close or refused of suite.writing.asserts"
    )


def _frames(traceback: TracebackType | None) -> list[FrameType]:
    frames = []
    while traceback:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


def _of_frame(frame: FrameType, text: str) -> Failure | None:
    name, values = frame.f_code.co_name, frame.f_locals
    if name == "refused" and text.startswith(_ACCEPTED):
        return Accepted(tuple(_text(mention) for mention in values["mentions"]))
    if name == "assert_same_bits":
        return Different(_arrays(values["actual"]), _arrays(values["expected"]))
    if name == "assert_close":
        one = {"values": np.asarray(values["actual"])}, {"values": np.asarray(values["expected"])}
        return Different(*one, values["rtol"], values["atol"])
    return None


def _arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(array) for name, array in values.items()}


def _text(mention: str | re.Pattern[str]) -> str:
    """Return a mention as a reader would write it: a pattern as the longest word of it, a path without its folders."""
    if isinstance(mention, str):
        return mention.rpartition("/")[2] if mention.startswith("/") else mention
    return re.sub(r"\((\w+)\)\?", r"\1", mention.pattern.replace(r"\b", ""))
