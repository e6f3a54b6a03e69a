"""Draw charts from rows of numbers; the rows are plain data, so that tests can read them.

Only valid cells are shown.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any

import altair as alt

from reports.draw.chart_style import color
from reports.read import figures, units
from reports.read.merged import Entry

Row = Mapping[str, Any]
Rows = Sequence[Row]

STAGES = ("read", "decode", "cast", "place", "merge", "compile", "rest")
_STAGE_COLOURS = ("first", "fourth", "sixth", "third", "fifth", "known", "absent")
_WIDTH, _BAR, _LETTER = 620, 22, 7.5
_SUBJECT_COLOURS = ("first", "known", "third", "fourth", "fifth", "sixth", "second")


def standing(rows: Sequence[Row]) -> alt.Chart:
    """Draw cases by outcome, one bar per subject. Rows: ``subject``, ``outcome``, ``share`` of cases, ``place``."""
    outcomes = ("pass", "known", "fail")
    base = alt.Chart(alt.Data(values=list(rows)), width=_WIDTH, height={"step": _BAR + 8})
    drawn: alt.Chart = base.mark_bar(height=_BAR).encode(
        _names(rows, "subject"),
        alt.X("share:Q", title="share of the cases that ran", axis=alt.Axis(format="%", tickCount=5)),
        alt.Color("outcome:N", scale=_scale(outcomes, outcomes)),
        alt.Order("place:Q"),
    )
    return drawn


def rate_rows(entries: Sequence[Entry]) -> Rows:
    """Return samples per second, with an interval, of the training steps among entries."""
    rows = []
    for entry in _valid(entries, "step"):
        if rate := figures.samples_per_second(entry):
            share = figures.utilization(entry)
            label = f"{units.digits(rate.value)}/s" + (f", MFU {units.percent(share)}" if share else "")
            bar = {"bar": f"{entry.machine}, {entry.subject}", "cell": entry.id, "subject": entry.subject}
            rows.append({**bar, "low": rate.low, "rate": rate.value, "high": rate.high, "label": label})
    return rows


def rates(rows: Sequence[Row]) -> alt.TopLevelMixin:
    """Draw ``rate_rows`` as bars with whiskers, one panel per cell."""
    panels = []
    for cell, panel_rows in _by(rows, "cell"):
        base = alt.Chart(alt.Data(values=panel_rows), width=_WIDTH, height={"step": _BAR + 8}, title=_title(cell))
        y, top = _names(rows, "bar"), 1.3 * max(row["high"] for row in panel_rows)
        scale = alt.Scale(domain=[0, top], nice=False)
        bars = base.mark_bar(height=_BAR).encode(y, alt.X("rate:Q", title="samples/s", scale=scale), _by_subject(rows))
        whiskers = base.mark_rule(strokeWidth=2, color=color("ink")).encode(y, x="low:Q", x2="high:Q")
        text = base.mark_text(align="left", dx=8, color=color("ink")).encode(y, x="high:Q", text="label:N")
        panels.append(bars + whiskers + text)
    return alt.vconcat(*panels, spacing=18)


def stage_rows(entries: Sequence[Entry]) -> Rows:
    """Return the median seconds of each stage of each load, and its roofline on this machine."""
    rows = []
    for entry in _valid(entries, "load"):
        samples = entry.cell["samples"]
        seconds_of = {name: median([sample["stages"].get(name, 0.0) for sample in samples]) for name in STAGES[:-1]}
        seconds_of["rest"] = max(figures.wall(entry) - sum(seconds_of.values()), 0.0)
        bar = {"bar": f"{entry.cell['operation']}, {entry.subject}", "group": f"{entry.machine}, {entry.cell['size']}"}
        if entry.cell["options"].get("temperature") == "cold":
            bar["group"] += ", cold"
        for place, (stage, seconds) in enumerate(seconds_of.items()):
            if seconds:
                limit = figures.roofline(entry)
                rows.append({**bar, "stage": stage, "seconds": seconds, "place": place, "roofline": limit})
    return rows


def stages(rows: Sequence[Row]) -> alt.TopLevelMixin:
    """Draw ``stage_rows`` as stacked bars with a tick at the roofline, one panel per machine and size."""
    # A stage keeps its color even if other stages are missing.
    present = [
        (stage, name)
        for stage, name in zip(STAGES, _STAGE_COLOURS, strict=True)
        if any(r["stage"] == stage for r in rows)
    ]
    scale, panels = _scale(*zip(*present, strict=True)), []
    for group, panel_rows in _by(rows, "group"):
        base = alt.Chart(alt.Data(values=panel_rows), width=_WIDTH, height={"step": _BAR + 4}, title=_title(group))
        y = _names(rows, "bar")
        bars = base.mark_bar(height=_BAR - 4).encode(
            y,
            alt.X("sum(seconds):Q", title="seconds"),
            alt.Color("stage:N", scale=scale),
            alt.Order("place:Q"),
        )
        ticks = base.mark_tick(thickness=3, height=_BAR + 2, color=color("fail")).encode(y, x="max(roofline):Q")
        panels.append(bars + ticks)
    drawn: alt.VConcatChart = alt.vconcat(*panels, spacing=18).resolve_scale(color="shared")
    return drawn


def memory_rows(entries: Sequence[Entry]) -> Rows:
    """Return the host peak over the budget, and the speed, of each load."""
    rows = []
    for entry in _valid(entries, "load"):
        share, speed = figures.over_budget(entry), figures.gigabytes_per_second(entry)
        if share is not None and speed is not None:
            point = {"subject": entry.subject, "operation": entry.cell["operation"], "cell": entry.id}
            rows.append({**point, "machine": entry.machine, "size": entry.cell["size"], "share": share, "speed": speed})
    return rows


def memory(rows: Sequence[Row]) -> alt.TopLevelMixin:
    """Draw ``memory_rows``: left is less memory, up is faster, right of the line is over the budget."""
    base = alt.Chart(alt.Data(values=list(rows)), width=_WIDTH, height=300)
    points = base.mark_point(filled=True, size=110, opacity=0.9).encode(
        alt.X("share:Q", title="host peak over the budget of a load", axis=alt.Axis(format=".1f")),
        alt.Y("speed:Q", title="GB of checkpoint per second", scale=alt.Scale(type="log")),
        _by_subject(rows),
        alt.Shape("operation:N", legend=alt.Legend(symbolFillColor=color("muted"))),
        alt.Size("size:N", scale=alt.Scale(domain=["small", "full"], range=[70, 220]), legend=None),
    )
    line = alt.Chart(alt.Data(values=[{"share": 1}])).mark_rule(strokeDash=[6, 4], strokeWidth=2)
    drawn: alt.LayerChart = points + line.encode(x="share:Q", color=alt.value(color("fail")))
    return drawn


def history_rows(entries: Sequence[Entry]) -> Rows:
    """Return the reference's seconds for cells that were measured in more than one run."""
    reference = [entry for entry in entries if entry.valid and entry.subject == "reference"]
    rows = []
    for entry in sorted(reference, key=lambda entry: (*entry.key, entry.run.started)):
        if sum(other.key == entry.key for other in reference) > 1:
            low, middle, high = figures.interval(entry)
            point = {"cell": f"{entry.machine}, {entry.id}", "run": f"{entry.run.started[:16]} {entry.version}"}
            rows.append({**point, "low": low, "seconds": middle, "high": high})
    return rows


def history(rows: Sequence[Row]) -> alt.TopLevelMixin:
    """Draw ``history_rows`` with their intervals, one panel per cell."""
    panels = []
    for cell, panel_rows in _by(rows, "cell"):
        base = alt.Chart(alt.Data(values=panel_rows), width=_WIDTH, height={"step": _BAR}, title=_title(cell))
        y, scale = _names(rows, "run"), alt.Scale(zero=True)
        whiskers = base.mark_rule(strokeWidth=2, color=color("second")).encode(
            y, alt.X("low:Q", title="seconds", scale=scale), x2="high:Q"
        )
        panels.append(whiskers + base.mark_point(filled=True, size=90, color=color("first")).encode(y, x="seconds:Q"))
    return alt.vconcat(*panels, spacing=18)


def _valid(entries: Sequence[Entry], workload: str) -> list[Entry]:
    """Return the valid entries of a workload, without size tiny, which only shows that a benchmark runs."""
    return [
        entry
        for entry in entries
        if entry.valid and entry.cell["workload"] == workload and entry.cell["size"] != "tiny"
    ]


def _names(rows: Sequence[Row], field: str) -> alt.Y:
    """Return an axis of bar names in the rows' order, wide enough for any font that a viewer may substitute."""
    room = _LETTER * max((len(str(row[field])) for row in rows), default=0)
    return alt.Y(f"{field}:N", sort=None, title=None, axis=alt.Axis(minExtent=room, maxExtent=room))


def _by_subject(rows: Sequence[Row]) -> alt.Color:
    """Return the colors of subjects, equal on every chart: the reference first, the others sorted by name."""
    names = sorted({row["subject"] for row in rows}, key=lambda name: (name != "reference", name))
    return alt.Color("subject:N", scale=_scale(names, _SUBJECT_COLOURS))


def _scale(names: Sequence[str], colors: Sequence[str]) -> alt.Scale:
    chosen = [color(colors[place % len(colors)]) for place in range(len(names))]
    return alt.Scale(domain=list(names), range=chosen)


def _by(rows: Sequence[Row], name: str) -> list[tuple[str, list[Row]]]:
    order = list(dict.fromkeys(str(row[name]) for row in rows))
    ranked = sorted(rows, key=lambda row: order.index(row[name]))
    return [(key, list(members)) for key, members in groupby(ranked, key=lambda row: str(row[name]))]


def _title(text: str) -> alt.TitleParams:
    return alt.TitleParams(text, anchor="start", fontSize=13, fontWeight="normal", color=color("ink"), offset=6)
