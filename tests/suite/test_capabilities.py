"""Operations and traits, and the one place that documents how operations are called."""

import re

from suite.subjects import protocol
from suite.subjects.capabilities import CAPABILITIES, OPERATIONS, TRAITS


def test_every_operation_is_documented() -> None:
    """The protocol's docstring has a line for each operation, in the same order, and for nothing else."""
    assert re.findall(r"^    (\w+)\(", protocol.__doc__, re.MULTILINE) == list(OPERATIONS)


def test_no_trait_is_an_operation() -> None:
    """A name is an operation or a trait, never both."""
    assert OPERATIONS.keys().isdisjoint(TRAITS)


def test_every_capability_has_one_sentence() -> None:
    """What a capability means is one sentence in the present tense."""
    for name, sentence in CAPABILITIES.items():
        assert re.fullmatch(r"[A-Z][a-z]*s .*[^.]\.", sentence), name
