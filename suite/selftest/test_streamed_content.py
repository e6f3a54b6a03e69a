"""Streams: an array's numbers in pieces, in their order, with their digests."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fixtures import content, streamed_content
from fixtures.streamed_content import Behind, Content, Stream, raw
from suite.asserts import assert_same_bits

PATH = "PaliGemma/llm/layers/mlp/linear"
SHAPE = (5, 7, 11)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stream]:
    """A stream whose draws end within its rows."""
    monkeypatch.setattr(streamed_content, "NUMBERS_A_DRAW", 13)
    monkeypatch.setattr(streamed_content, "NUMBERS_A_BLOCK", 31)
    with Content({PATH: SHAPE}, "bfloat16", seed=2) as streams:
        yield streams[PATH]


def test_pieces_are_the_array(stream: Stream) -> None:
    """Rows and blocks have the numbers of the array, each once."""
    expected = content.array(PATH, SHAPE, "bfloat16", seed=2)
    assert_same_bits({"row": stream[0], "next": stream[1]}, {"row": expected[0], "next": expected[1]})
    blocks = list(stream.blocks())
    assert [block.size for block in blocks] == [31] * 7 + [14]
    assert_same_bits({"rest": np.concatenate(blocks)}, {"rest": expected[2:].reshape(-1)})


@pytest.mark.parametrize(("place", "number"), [(0, 0), (2, 154), (5, 385), (..., 0)])
def test_rows_come_in_their_order(stream: Stream, place: int, number: int) -> None:
    """A row that is asked for again, too early or past the end is refused, with the path and both places."""
    _ = stream[0]
    with pytest.raises(IndexError, match=rf"{PATH}\[5, 7, 11\]: expected number 77 .*, found {number}; read rows"):
        _ = stream[place]
    assert stream[1].shape == SHAPE[1:]


def test_no_digest_of_a_part(stream: Stream) -> None:
    """Digests are of the whole parameter; there are none before it was drawn."""
    _ = stream[0]
    with pytest.raises(RuntimeError, match=rf"{PATH}: 77 of 385 numbers were drawn"):
        stream.sha256()


def test_a_failure_to_hash_is_raised(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the hashing thread, in whatever draw, is the caller's."""
    calls: list[int] = []

    def fail_once(array: np.ndarray) -> memoryview:
        calls.append(array.size)
        if len(calls) == 3:
            raise MemoryError("as ordered")
        return raw(array)

    monkeypatch.setattr(streamed_content, "raw", fail_once)
    with pytest.raises(MemoryError, match="as ordered"):
        _ = stream[...]


@pytest.mark.parametrize("dtype", content.DTYPES)
def test_raw_is_c_order(dtype: str) -> None:
    """The raw bytes of a transposed view are those of its copy; of an array in order they are its own memory."""
    array = content.array(PATH, (3, 5), dtype)
    assert bytes(raw(array.T)) == array.T.tobytes()
    raw(array)[:] = bytes(array.nbytes)
    assert not array.astype(np.float32).any()


def test_work_is_done_behind() -> None:
    """A piece of work runs while the caller goes on, one at a time; the end waits for the last."""
    gate, done = threading.Event(), list[int]()
    with Behind() as behind:
        behind.do(gate.wait, 10)
        assert not done
        gate.set()
        behind.do(done.append, 1)
        behind.do(done.append, 2)
    assert done == [1, 2]


def test_work_that_fails_is_told() -> None:
    """An error of the work is raised at the end, and at the next piece of work; the caller's own error comes first."""
    with pytest.raises(ZeroDivisionError), Behind() as behind:
        behind.do(lambda: 1 // 0)
    with Behind() as behind:
        behind.do(lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            behind.do(print)
        behind.wait()
