"""The content of a report: counts, bytes, text."""

import ml_dtypes
import numpy as np
import pytest

from pi0_compat.loading.report import Entry, LoadReport, Status
from pi0_compat.params import Leaf
from pi0_compat.text import format_bytes

FLOAT = Leaf((2, 3), np.dtype(np.float32))
HALF = Leaf((2, 3), np.dtype(np.float16))
BRAIN = Leaf((2, 3), np.dtype(ml_dtypes.bfloat16))

REPORT = LoadReport(
    "/ckpt/params",
    (
        Entry(path="a", status=Status.LOADED, expected=FLOAT, found=FLOAT),
        Entry(path="b", status=Status.CAST, expected=FLOAT, found=HALF),
        Entry(path="e", status=Status.CAST, expected=BRAIN, found=FLOAT, nonfinite=3),
        Entry(path="d", status=Status.INITIALIZED, expected=FLOAT),
        Entry(path="c", status=Status.DROPPED, found=HALF),
    ),
)


def test_counts() -> None:
    """Every status is counted, even one without parameters."""
    counts = {status: REPORT.count(status) for status in Status}
    assert counts == {
        Status.LOADED: 1,
        Status.CAST: 2,
        Status.RESAMPLED: 0,
        Status.EXTENDED: 0,
        Status.INITIALIZED: 1,
        Status.DROPPED: 1,
        Status.MISSING: 0,
    }


def test_paths_are_sorted() -> None:
    """The paths with any of the given statuses are sorted."""
    assert REPORT.paths(Status.INITIALIZED, Status.DROPPED) == ["c", "d"]
    assert REPORT.paths() == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.LOADED, 24),
        (Status.CAST, 24 + 12),
        (Status.INITIALIZED, 24),
        (Status.DROPPED, 12),
        (Status.MISSING, 0),
    ],
)
def test_bytes(status: Status, expected: int) -> None:
    """Bytes are those in the model; for dropped parameters, those in the checkpoint."""
    assert REPORT.num_bytes(status) == expected


def test_text() -> None:
    """The text has the counts, every parameter that was not simply loaded, a summary of casts, and NaNs."""
    assert str(REPORT).splitlines() == [
        "/ckpt/params: 1 loaded (24 B), 2 cast (36 B), 1 initialized (24 B), 1 dropped (12 B)",
        "  c: dropped float16[2, 3]",
        "  d: initialized float32[2, 3]",
        "  cast float16 -> float32: 1 parameters",
        "  cast float32 -> bfloat16: 1 parameters",
        "  e: cast float32[2, 3] -> bfloat16[2, 3], 3 values are not finite",
    ]


def test_text_of_an_uneventful_load_is_one_line() -> None:
    """If everything was simply loaded, there is only one line."""
    assert str(LoadReport("x", REPORT.entries[:1])) == "x: 1 loaded (24 B)"


def test_text_of_nothing() -> None:
    """A report without parameters says so."""
    assert str(LoadReport("x", ())) == "x: no parameters"


def test_long_texts_end_in_a_count() -> None:
    """More than twenty notable parameters are truncated after twenty, and the rest is counted."""
    entries = tuple(Entry(path=f"p{n:02}", status=Status.DROPPED, found=HALF) for n in range(25))
    lines = str(LoadReport("x", entries)).splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "  ... and 5 more"


def test_many_parameters_that_are_not_finite_are_cut_too() -> None:
    """A checkpoint full of NaN does not produce a text of a thousand lines."""
    entries = tuple(
        Entry(path=f"p{n:03}", status=Status.LOADED, expected=FLOAT, found=FLOAT, nonfinite=6) for n in range(1000)
    )
    assert len(str(LoadReport("x", entries)).splitlines()) < 50


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_550_000, "1.6 MB"),
        (12_950_000_000, "12.9 GB"),
        (999_999, "1.0 MB"),
    ],
)
def test_bytes_for_a_reader(number: int, text: str) -> None:
    """Bytes are given in the unit that keeps them below a thousand."""
    assert format_bytes(number) == text
