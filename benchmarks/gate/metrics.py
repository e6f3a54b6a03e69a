"""What is counted, and when the candidate's number is worse than the baseline's."""

from typing import Literal, NamedTuple

Worse = Literal["more", "less"]


class Metric(NamedTuple):
    """A number that is the same for the same code.

    Attributes:
      name: as the worker calls it.
      worse: which way is worse.
      slack: the share of the baseline's number that it may be off.
      room: by how much it may be off in any case.
    """

    name: str
    worse: Worse = "more"
    slack: float = 0.0
    room: float = 0.0

    def compare(self, old: float, new: float) -> Literal["same", "regressed", "improved"]:
        """What a change from one number to another is."""
        if abs(new - old) <= max(self.slack * old, self.room):
            return "same"
        return "regressed" if (new > old) == (self.worse == "more") else "improved"


COUNTED = {
    metric.name: metric
    for metric in (
        # Mapped files count as a whole. orbax reads its own small nodes as often as its threads happen to miss them in
        # the cache, and whoever counts reads too.
        Metric("bytes_read", slack=0.05, room=4096),
        # In blocks above a megabyte, without what XLA allocates.
        Metric("bytes_allocated"),
        # In jax arrays that a call leaves behind.
        Metric("bytes_held"),
        # Programs, by the first call, and by those after it.
        Metric("compiles"),
        Metric("compiles_again"),
        Metric("flops"),
        Metric("argument_bytes"),
        Metric("output_bytes"),
        Metric("temp_bytes"),
        # Outputs in the place of donated arguments.
        Metric("alias_bytes", worse="less"),
    )
}
