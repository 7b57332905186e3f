"""Figures of reports, each as a piece of HTML for a page that holds plotly.js once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Literal, cast

import plotly.graph_objects as go

COLORS = ("#2563a8", "#d97a1d", "#2f8f6b", "#8a4fa3", "#6b7280", "#b04a5a")
LIMIT_COLOR = "#b3261e"
_FONT = 'system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif'
_CONFIG = {"displayModeBar": False, "responsive": True}
# Lines of more points than this have no mark at each.
_MARKED = 40


def grouped_bars(
    name: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    x_title: str,
    y_title: str,
) -> str:
    """Bars side by side: a group for each label, a bar for each series.

    Args:
        name: Id of the figure in its page.
        labels: Names of the groups.
        series: Heights by the series' name, one for each label.
        x_title: Title of the horizontal axis, with the unit.
        y_title: Title of the vertical axis, with the unit.
    """
    figure = go.Figure()
    for color, (key, values) in zip(_colors(len(series)), series.items(), strict=True):
        figure.add_bar(name=escape(key), x=_plain(labels), y=list(values), marker_color=color)
    figure.update_layout(barmode="group", bargap=0.25)
    return _html(figure, name, x_title, y_title, x_axis={"type": "category"})


def lines(
    name: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    x_title: str,
    y_title: str,
    style: Literal["lines+markers", "markers"] = "lines+markers",
) -> str:
    """Points over names, joined if their order has a meaning; the heights are logarithmic.

    Args:
        name: Id of the figure in its page.
        labels: Names on the horizontal axis, in order.
        series: Heights by the line's name, one for each label; None and 0 leave a gap.
        x_title: Title of the horizontal axis, with the unit.
        y_title: Title of the vertical axis, with the unit.
        style: "markers" leaves the points apart.
    """
    figure = go.Figure()
    for color, (key, values) in zip(_colors(len(series)), series.items(), strict=True):
        figure.add_scatter(
            name=escape(key),
            x=_plain(labels),
            y=[value or None for value in values],
            mode=style,
            line={"color": color, "width": 2},
            marker={"size": 8, "color": color},
        )
    are_long = max(map(len, labels), default=0) > 6
    x_axis = {"type": "category", "tickangle": -60 if are_long else 0, "automargin": True}
    height = 520 if are_long else 360
    return _html(figure, name, x_title, y_title, x_axis=x_axis, y_axis=_LOG, height=height)


def curves(
    name: str,
    at: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    x_title: str,
    y_title: str,
) -> str:
    """Lines over a number that grows, such as the steps of a training.

    Args:
        name: Id of the figure in its page.
        at: The number, in rising order.
        series: Heights by the line's name, one for each number.
        x_title: Title of the horizontal axis, with the unit.
        y_title: Title of the vertical axis, with the unit.
    """
    figure = go.Figure()
    mode = "lines" if len(at) > _MARKED else "lines+markers"
    for color, (key, values) in zip(_colors(len(series)), series.items(), strict=True):
        line = {"color": color, "width": 2}
        figure.add_scatter(name=escape(key), x=list(at), y=list(values), mode=mode, line=line)
    return _html(figure, name, x_title, y_title, x_axis={}, legend=len(series) > 1)


def ranges_with_limits(
    name: str,
    labels: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    limits: Sequence[float],
    *,
    value_name: str,
    limit_name: str,
) -> str:
    """Values with their intervals, each against a limit of its own, on a logarithmic scale.

    Args:
        name: Id of the figure in its page.
        labels: Name of each value.
        values: The values, positive.
        intervals: Lower and upper bound of each, or None.
        limits: The limit of each.
        value_name: What the values are called.
        limit_name: What the limits are called.
    """
    bounds = [interval or (value, value) for interval, value in zip(intervals, values, strict=True)]
    figure = go.Figure()
    figure.add_scatter(
        name=value_name,
        x=list(values),
        y=_plain(labels),
        mode="markers",
        marker={"color": COLORS[0], "size": 11},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [high - value for (_, high), value in zip(bounds, values, strict=True)],
            "arrayminus": [value - low for (low, _), value in zip(bounds, values, strict=True)],
            "color": COLORS[0],
            "thickness": 2,
        },
    )
    figure.add_scatter(
        name=limit_name,
        x=list(limits),
        y=_plain(labels),
        mode="markers",
        marker={"symbol": "line-ns-open", "color": LIMIT_COLOR, "size": 22, "line": {"width": 3}},
    )
    y_axis = {"type": "category", "autorange": "reversed", "automargin": True, "showgrid": True}
    height = 150 + 46 * len(labels)
    return _html(figure, name, value_name, "", x_axis=_LOG, y_axis=y_axis, height=height)


def boxes(name: str, samples: Mapping[str, Sequence[float]], *, x_title: str) -> str:
    """A box with all its points for each distribution, on a logarithmic scale.

    Args:
        name: Id of the figure in its page.
        samples: Positive values by the distribution's name.
        x_title: Title of the axis of the values, with the unit.
    """
    figure = go.Figure()
    for color, (key, values) in zip(_colors(len(samples)), samples.items(), strict=True):
        figure.add_box(
            name=escape(key),
            x=list(values),
            boxpoints="all",
            pointpos=0,
            jitter=0.6,
            marker={"color": color, "size": 5, "opacity": 0.7},
            line={"width": 1.5},
        )
    y_axis = {"type": "category", "autorange": "reversed", "automargin": True}
    x_axis = {"type": "log", "automargin": True}
    height = 130 + 52 * len(samples)
    return _html(
        figure, name, x_title, "", x_axis=x_axis, y_axis=y_axis, height=height, legend=False
    )


def stacked_shares(
    name: str, labels: Sequence[str], parts: Mapping[str, Sequence[float]], *, x_title: str
) -> str:
    """A bar for each label, divided into its parts; each bar's parts add up to 100.

    Args:
        name: Id of the figure in its page.
        labels: Name of each whole.
        parts: Values by the part's name, one for each label.
        x_title: Title of the axis of the shares.
    """
    totals = [sum(values) for values in zip(*parts.values(), strict=True)]
    figure = go.Figure()
    for color, (key, values) in zip(_colors(len(parts)), parts.items(), strict=True):
        shares = [100 * value / total for value, total in zip(values, totals, strict=True)]
        figure.add_bar(
            name=escape(key), y=_plain(labels), x=shares, marker_color=color, orientation="h"
        )
    figure.update_layout(barmode="stack", bargap=0.4)
    y_axis = {"type": "category", "autorange": "reversed", "automargin": True}
    height = 160 + 40 * len(labels)
    return _html(figure, name, x_title, "", x_axis={}, y_axis=y_axis, height=height)


def confusion(
    name: str, labels: Sequence[str], counts: Sequence[Sequence[int]], *, x_title: str, y_title: str
) -> str:
    """A table of counts whose cells are the darker the larger their share of the row is.

    Args:
        name: Id of the figure in its page.
        labels: Names of the rows, from the top, and of the columns.
        counts: Of each row, one for each column.
        x_title: What the columns are.
        y_title: What the rows are.
    """
    figure = go.Figure()
    figure.add_heatmap(
        x=_plain(labels),
        y=_plain(labels),
        z=[[count / max(1, sum(row)) for count in row] for row in counts],
        text=[[str(count or "") for count in row] for row in counts],
        texttemplate="%{text}",
        colorscale=[[0, "#ffffff"], [1, COLORS[0]]],
        zmin=0,
        zmax=1,
        showscale=False,
    )
    axis = {"type": "category", "automargin": True}
    y_axis = {**axis, "autorange": "reversed"}
    height = 200 + 32 * len(labels)
    return _html(figure, name, x_title, y_title, x_axis=axis, y_axis=y_axis, height=height)


def roofline(
    name: str,
    points: Mapping[str, tuple[float, float]],
    *,
    flop_per_second: float,
    bytes_per_second: float,
) -> str:
    """Measured speeds under the machine's ceilings (Williams, Waterman and Patterson, 2009).

    Args:
        name: Id of the figure in its page.
        points: FLOP a byte and FLOP a second, by the point's name.
        flop_per_second: The ceiling of computing.
        bytes_per_second: The ceiling of moving data.
    """
    ridge = flop_per_second / bytes_per_second
    xs = [x for x, _ in points.values()]
    ends = min([ridge, *xs]) / 4, max([ridge, *xs]) * 4
    roof = [ends[0], ridge, ends[1]]
    figure = go.Figure()
    figure.add_scatter(
        name="measured ceilings",
        x=roof,
        y=[min(flop_per_second, x * bytes_per_second) for x in roof],
        mode="lines",
        line={"color": LIMIT_COLOR, "width": 2},
    )
    for color, (key, (x, y)) in zip(_colors(len(points)), points.items(), strict=True):
        figure.add_scatter(
            name=escape(key), x=[x], y=[y], mode="markers", marker={"size": 11, "color": color}
        )
    log = {"type": "log", "exponentformat": "power"}
    return _html(figure, name, "FLOP a byte", "FLOP a second", x_axis=log, y_axis=log, height=440)


_LOG: dict[str, Any] = {"type": "log", "exponentformat": "power", "dtick": 1}


def _plain(labels: Sequence[str]) -> list[str]:
    # plotly reads tags in labels as formatting and links, and labels may be a user's words.
    return [escape(label) for label in labels]


def _colors(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]


def _html(
    figure: go.Figure,
    name: str,
    x_title: str,
    y_title: str,
    *,
    x_axis: Mapping[str, Any],
    y_axis: Mapping[str, Any] | None = None,
    height: int = 380,
    legend: bool = True,
) -> str:
    axis = {"gridcolor": "#e8ebef", "linecolor": "#b6bdc7", "zeroline": False}
    figure.update_layout(
        template="none",
        height=height,
        font={"family": _FONT, "size": 13, "color": "#1c2430"},
        margin={"l": 70, "r": 20, "t": 40, "b": 60},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        showlegend=legend,
        xaxis=axis | {"title": x_title} | dict(x_axis),
        yaxis=axis | {"title": y_title} | dict(y_axis or {"rangemode": "tozero"}),
    )
    return cast(
        str,
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            config=_CONFIG,
            div_id=name,
            default_height=f"{height}px",
        ),
    )
