"""The clock that pytest-benchmark reads: seconds that subjects took in their own processes.

It stands still while messages travel between processes, so pytest-benchmark's numbers are the subject's.
"""


class Stopwatch:
    """A timer that returns the total seconds so far."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def add(self, seconds: float) -> None:
        """Advance by ``seconds``."""
        self._seconds += seconds


STOPWATCH = Stopwatch()
