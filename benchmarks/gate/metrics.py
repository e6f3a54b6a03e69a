"""The counted metrics, and when the candidate's count is worse than the baseline's."""

from typing import Literal, NamedTuple

Worse = Literal["more", "less"]


class Metric(NamedTuple):
    """A count that is equal for equal code.

    Attributes:
      name: the worker's name for it.
      worse: the direction that is worse.
      slack: the allowed difference as a share of the baseline's count.
      room: the difference that is always allowed.
    """

    name: str
    worse: Worse = "more"
    slack: float = 0.0
    room: float = 0.0

    def compare(self, old: float, new: float) -> Literal["same", "regressed", "improved"]:
        """Classify the change from ``old`` to ``new``."""
        if abs(new - old) <= max(self.slack * old, self.room):
            return "same"
        return "regressed" if (new > old) == (self.worse == "more") else "improved"


COUNTED = {
    metric.name: metric
    for metric in (
        # Mapped files count as a whole. orbax rereads its small nodes whenever its threads miss the cache, and counting
        # itself reads too.
        Metric("bytes_read", slack=0.05, room=4096),
        # In blocks above a megabyte, without XLA's allocations.
        Metric("bytes_allocated"),
        # In jax arrays that a call leaves behind.
        Metric("bytes_held"),
        # Programs compiled by the first call, and by later calls.
        Metric("compiles"),
        Metric("compiles_again"),
        Metric("flops"),
        Metric("argument_bytes"),
        Metric("output_bytes"),
        Metric("temp_bytes"),
        # Outputs that reuse the memory of donated arguments.
        Metric("alias_bytes", worse="less"),
    )
}
