"""The pictures of the pages: which there are, what they show, and what a reader has to know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import altair as alt

from reports.draw import charts
from reports.draw.chart_style import svg
from reports.draw.charts import Row
from reports.read import standing
from reports.read.merged import entries
from reports.read.sources import Sources


@dataclass(frozen=True)
class Picture:
    """A drawing.

    Attributes:
      name: of its file, and its place on the page.
      title: one line.
      caption: how to read it.
      drawing: an SVG element.
    """

    name: str
    title: str
    caption: str
    drawing: str


def pictures(found: Sources) -> list[Picture]:
    """Those that there are numbers for, but for ``outcomes``."""
    known = [
        ("stages", "Load time by stage", charts.stages, charts.stage_rows(found.merged), _STAGES),
        ("memory", "Memory against speed", charts.memory, charts.memory_rows(found.merged), _MEMORY),
        ("steps", "Training steps", charts.rates, charts.rate_rows(found.merged), _STEPS),
        ("history", "From run to run", charts.history, charts.history_rows(list(entries(found.runs))), _HISTORY),
    ]
    return [_picture(*each) for each in known if each[3]]


def outcomes(found: Sources) -> Picture | None:
    """What holds, for whom, for pages that cannot draw it themselves."""
    rows = standing.rows_of_chart(found.standings)
    return _picture("outcomes", "What holds, for whom", charts.standing, rows, "") if rows else None


def _picture(
    name: str, title: str, draw: Callable[[Sequence[Row]], alt.TopLevelMixin], rows: Sequence[Row], caption: str
) -> Picture:
    return Picture(name, title, caption, svg(draw(rows)))


_STAGES = (
    "Median seconds of each stage of a load in a fresh process. The red tick is the roofline: the file's bytes at the "
    "speed at which this machine reads, or what stays in memory at the speed at which it copies, whichever takes "
    "longer. A stage that a subject does not tell apart is in the rest, or in read."
)
_MEMORY = (
    "Each mark is a load; large ones are of real size. The budget, the dashed line, is 1.15 times the bytes that stay "
    "on the host, and 1 GiB. Further left is leaner, further up is faster."
)
_STEPS = (
    "Examples a second; whiskers are 95 % intervals over resampled processes and samples. MFU is counted operations "
    "over those of a matrix product that was measured in the same run."
)
_HISTORY = (
    "Seconds of the reference, for cells that more than one run has. Runs were at different hours of a shared machine: "
    "a difference here is a hint, not a proof."
)
