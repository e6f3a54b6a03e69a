"""The clock that pytest-benchmark reads: seconds that subjects took in their own processes.

It stands still while messages travel between the processes, so pytest-benchmark's numbers are those of the subject.
"""


class Stopwatch:
    """Seconds in all, as a timer is read: by its differences."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def add(self, seconds: float) -> None:
        """Let it run by this much."""
        self._seconds += seconds


STOPWATCH = Stopwatch()
