"""The pictures of the pages: their charts, titles and captions."""

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
      name: the name of its file and its id on the page.
      title: one line.
      caption: how to read it.
      drawing: an SVG element.
    """

    name: str
    title: str
    caption: str
    drawing: str


def pictures(sources: Sources) -> list[Picture]:
    """Return every picture that has data, except ``outcomes``."""
    known = [
        ("stages", "Load time by stage", charts.stages, charts.stage_rows(sources.merged), _STAGES),
        ("memory", "Memory against speed", charts.memory, charts.memory_rows(sources.merged), _MEMORY),
        ("steps", "Training steps", charts.rates, charts.rate_rows(sources.merged), _STEPS),
        ("history", "Changes between runs", charts.history, charts.history_rows(list(entries(sources.runs))), _HISTORY),
    ]
    return [_picture(*each) for each in known if each[3]]


def outcomes(sources: Sources) -> Picture | None:
    """Return the picture of results by implementation, for pages that cannot draw bars themselves."""
    rows = standing.rows_of_chart(sources.standings)
    return _picture("outcomes", "Results by implementation", charts.standing, rows, "") if rows else None


def _picture(
    name: str, title: str, draw: Callable[[Sequence[Row]], alt.TopLevelMixin], rows: Sequence[Row], caption: str
) -> Picture:
    return Picture(name, title, caption, svg(draw(rows)))


_STAGES = (
    "Median seconds of each stage of a load in a fresh process. The red tick is the roofline: reading, decoding and "
    "casting at this machine's speeds (`python -m benchmarks limits`); in files without these, reading or copying, "
    "whichever takes longer. A stage that a subject does not report separately is part of the rest, or of read."
)
_MEMORY = (
    "Each mark is a load; large marks are of size full. The dashed line is the budget: 1.15 times the bytes that stay "
    "on the host, plus 1 GiB. Further left is less memory, further up is faster."
)
_STEPS = (
    "Samples per second; whiskers are 95 % intervals from resampled processes and samples. MFU is relative to a matrix "
    "product measured in the same run."
)
_HISTORY = (
    "Seconds of the reference, for cells measured in more than one run. Runs took place at different times on a shared "
    "machine: a difference here is a hint, not proof."
)
