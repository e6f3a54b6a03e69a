"""Two names of one table: the same values, rows that transformers added, and what is another table."""

import numpy as np
import pytest

from fixtures.params import Params
from pi0_compat.layouts.torch.tied import padded, tied_apart
from tests.pi0_compat.in_memory import InMemory

TABLE = np.arange(62 * 3, dtype=np.float32).reshape(62, 3)


def _source(**tensors: np.ndarray) -> InMemory:
    params: Params = {**tensors}
    return InMemory(params)


@pytest.mark.parametrize(
    ("copy", "is_tied"),
    [
        (TABLE.copy(), True),
        (np.concatenate([TABLE, np.ones((2, 3), np.float32)]), True),
        (np.concatenate([TABLE, np.ones((1, 3), np.float32)]), False),
        (TABLE * 2, False),
        (TABLE.astype(np.float16), False),
        (TABLE[:, :2], False),
        (np.float32(1), False),
        (np.zeros(0, np.float32), False),
    ],
    ids=["same", "padded", "one row more", "doubled", "other dtype", "narrower", "scalar", "empty"],
)
def test_tables_are_compared(copy: np.ndarray, is_tied: bool) -> None:
    """Only the same bits in all rows of the vocabulary are the same table, in either order."""
    assert (tied_apart(_source(a=TABLE, b=np.asarray(copy)), "a", "b") is None) == is_tied
    assert (tied_apart(_source(a=np.asarray(copy), b=TABLE), "a", "b") is None) == is_tied


def test_the_rows_of_transformers() -> None:
    """Two tokens more, rounded up to 64 rows."""
    assert [padded(rows) for rows in (62, 63, 257_152)] == [64, 128, 257_216]
