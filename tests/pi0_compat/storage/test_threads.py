"""Work on several parameters at once: results in order, the first error, and an end of all other work."""

import threading

import pytest

from pi0_compat.storage import threads
from pi0_compat.storage.threads import Report, for_each


def test_results_are_in_the_order_of_the_items() -> None:
    """Every item has its result, and the bytes of all are reported."""
    done: list[int] = []

    def work(item: str, report: Report) -> str:
        report(len(item))
        return item.upper()

    assert list(for_each(["bb", "a", "ccc"], work, done.append).items()) == [("bb", "BB"), ("a", "A"), ("ccc", "CCC")]
    assert sum(done) == 6


def test_an_error_ends_the_work_on_other_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised, and what would never end by itself ends when it reports."""
    begun = threading.Event()

    def work(item: str, report: Report) -> None:
        if item == "fails":
            begun.wait()
            raise OSError("gone")
        begun.set()
        while True:
            report(0)

    monkeypatch.setattr(threads, "_AT_ONCE", 2)
    with pytest.raises(OSError, match="gone"):
        for_each(["endless", "fails"], work)
