"""The style of charts, and charts as SVG: one drawing for light and dark pages.

Charts are drawn in the light palette; its colors are then replaced by CSS variables with the light color as fallback.
A page that embeds the drawing sets the variables; a standalone file carries both palettes. Text is measured in a font
bundled with the renderer, so the same numbers give the same bytes on every machine.
"""

from typing import Any

import altair as alt
import vl_convert

# Name -> light, dark. The colors of a palette are distinct, because ``svg`` replaces them by value.
PALETTE = {
    "paper": ("#ffffff", "#12161c"),
    "raised": ("#f6f8fa", "#1a2028"),
    "ink": ("#1c2430", "#e4e9f0"),
    "muted": ("#5f6b7a", "#9aa6b5"),
    "line": ("#dfe4ea", "#2c3542"),
    "pass": ("#1f8a5b", "#3fbf86"),
    "known": ("#d98e1f", "#e5a84b"),
    "known-text": ("#8a5200", "#e6a94c"),
    "fail": ("#c8402f", "#f0705f"),
    "absent": ("#c3cad3", "#49535f"),
    "first": ("#2f6fde", "#6ea0ff"),
    "second": ("#8a93a0", "#7c8795"),
    "third": ("#7b4fc9", "#b08cf0"),
    "fourth": ("#138a9c", "#46bccd"),
    "fifth": ("#b5467f", "#e383b3"),
    "sixth": ("#6b7a1f", "#b0c04c"),
}
_FONT = "Liberation Sans, Helvetica, Arial, sans-serif"


def color(name: str) -> str:
    """Return a color of the light palette; ``svg`` replaces it by a variable for both."""
    return PALETTE[name][0]


def svg(chart: alt.TopLevelMixin) -> str:
    """Return a chart as an SVG element in the colors of the embedding page."""
    styled = chart.configure(**_config())
    drawn = vl_convert.vegalite_to_svg(styled.to_dict(validate=True))
    for name, (light, _) in PALETTE.items():
        drawn = drawn.replace(f'"{light}"', f'"var(--{name}, {light})"')
    return drawn.strip()


def standalone(drawn: str) -> str:
    """Return an SVG element as a standalone file with its own background, since a page may use the other theme."""
    light, dark = variables()
    style = f"<style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    head, bracket, rest = drawn.partition(">")
    return f"{head}{bracket}{style}{rest}\n"


def variables() -> tuple[str, str]:
    """Return the light and the dark palette as CSS declarations."""
    light, dark = ("".join(f"--{name}:{pair[theme]};" for name, pair in PALETTE.items()) for theme in (0, 1))
    return light, dark


def _config() -> dict[str, Any]:
    text = {"labelFont": _FONT, "titleFont": _FONT, "labelColor": color("muted"), "titleColor": color("muted")}
    axis = {**text, "domainColor": color("line"), "gridColor": color("line"), "tickColor": color("line")}
    return {
        "background": color("paper"),
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {**axis, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 320},
        "legend": {**text, "labelFontSize": 12, "orient": "top", "title": None, "symbolType": "square"},
        "header": {**text, "labelFontSize": 13, "labelAnchor": "start", "labelColor": color("ink")},
        "text": {"font": _FONT, "fontSize": 12, "fill": color("ink")},
        "padding": 12,
    }
