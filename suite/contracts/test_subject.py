"""What a subject says of itself."""

import pytest

from suite.capabilities import OPERATIONS
from suite.registry import contract
from suite.subjects.protocol import Subject, Unsupported


@contract(source="suite/subjects/protocol.py; pandas tests/extension/base: an absent feature fails loudly", needs=())
def test_absence_is_loud(subject: Subject) -> None:
    """An operation that a subject does not offer raises Unsupported when it is called."""
    for operation in OPERATIONS.keys() - subject.capabilities:
        with pytest.raises(Unsupported):
            getattr(subject, operation)()
