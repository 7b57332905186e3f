"""A slow renderer in plain Python that follows the definition pixel by pixel."""

from __future__ import annotations

from itertools import pairwise
from math import hypot

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories import RenderStyle, Trajectory

GRID = 256
Point = tuple[float, float]


def render_slowly(trajectory: Trajectory, style: RenderStyle) -> NDArray[np.uint8]:
    """Returns uint8 [T, H, W, 3]."""
    points = _fit(trajectory.xy.tolist(), style)
    duration = float(trajectory.t[-1] - trajectory.t[0])
    times = [(float(t) - float(trajectory.t[0])) / duration for t in trajectory.t]
    frames = style.frames
    frame_times = [k / (frames - 1) for k in range(frames)] if frames > 1 else [1.0]
    heads = [_position(points, times, time) for time in frame_times]
    path = sorted(
        [*zip(times, points, strict=True), *zip(frame_times, heads, strict=True)],
        key=lambda timed: timed[0],
    )

    clip = np.full((frames, style.height, style.width, 3), style.background, np.uint8)
    for k, (frame_time, head) in enumerate(zip(frame_times, heads, strict=True)):
        trail = [point for time, point in path if time <= frame_time] if frames == 1 or k else []
        for row in range(style.height):
            for column in range(style.width):
                pixel = (column, row)
                pieces = pairwise(trail)
                to_trail = min((_distance(pixel, a, b) for a, b in pieces), default=1e9)
                gray = max(
                    _gray(style.trail_width / 2, to_trail, style.trail_level - style.background),
                    _gray(
                        style.head_radius,
                        _distance(pixel, head, head),
                        style.head_level - style.background,
                    ),
                )
                clip[k, row, column] = style.background + gray
    return clip


def _fit(xy: list[Point], style: RenderStyle) -> list[Point]:
    xs, ys = zip(*xy, strict=True)
    middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
    spans = (max(xs) - min(xs), max(ys) - min(ys))
    sizes = (style.width - 1, style.height - 1)
    scales = [
        (size - 2 * style.margin) / span
        for size, span in zip(sizes, spans, strict=True)
        if span > 0
    ]
    scale = min(scales, default=0.0)
    up = -1 if style.y_axis == "up" else 1
    return [
        (
            round(((x - middle[0]) * scale + sizes[0] / 2) * GRID) / GRID,
            round((up * (y - middle[1]) * scale + sizes[1] / 2) * GRID) / GRID,
        )
        for x, y in xy
    ]


def _position(points: list[Point], times: list[float], time: float) -> Point:
    for (t0, a), (t1, b) in pairwise(zip(times, points, strict=True)):
        if t0 <= time < t1:
            share = (time - t0) / (t1 - t0)
            x, y = (round((q - p) * GRID * share) / GRID for p, q in zip(a, b, strict=True))
            return (a[0] + x, a[1] + y)
    return points[-1]


def _distance(pixel: Point, a: Point, b: Point) -> float:
    dx, dy = b[0] - a[0], b[1] - a[1]
    square = dx * dx + dy * dy
    along = ((pixel[0] - a[0]) * dx + (pixel[1] - a[1]) * dy) / square if square else 0.0
    along = min(max(along, 0.0), 1.0)
    return hypot(pixel[0] - a[0] - along * dx, pixel[1] - a[1] - along * dy)


def _gray(radius: float, distance: float, level: int) -> int:
    return int(min(max(radius + 0.5 - distance, 0.0), 1.0) * level + 0.5)
