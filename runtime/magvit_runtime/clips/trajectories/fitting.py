"""Fits a path into the picture, onto a grid of fixed-point pixel coordinates.

Everything after the fit starts from integers, and the fit itself uses only elementwise IEEE
operations in a fixed order, so that every machine gives the same bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.style import RenderStyle

# Grid steps in a pixel. A power of two, so that dividing by it is exact.
GRID = 256


def fit(xy: NDArray[np.float64], style: RenderStyle) -> NDArray[np.int64]:
    """Scales a path to the picture's margin box, aspect kept, and centres it.

    Args:
        xy: float64 [points, 2] in any unit.
        style: Gives the picture's size, its margin and the direction of y.

    Returns:
        int64 [points, 2]: x and y in 1/GRID pixel; pixel (row r, column c) has its centre at
        (c · GRID, r · GRID). A path with no extent is at the centre of the picture.
    """
    low = xy.min(axis=0)
    span = xy.max(axis=0) - low
    picture = np.array([style.width - 1, style.height - 1])
    box = picture - 2 * style.margin
    # The axis that reaches its side of the box first sets the scale of both.
    axis = 0 if span[0] * box[1] >= span[1] * box[0] else 1
    # Divided before multiplied: box / span overflows for the smallest spans.
    unit = span[axis] if span[axis] > 0 else 1
    extent = span / unit * box[axis]
    pixels = (xy - low) / unit * box[axis] + (picture - extent) / 2
    on_grid: NDArray[np.int64] = np.rint(pixels * GRID).astype(np.int64)
    if style.y_axis == "up":
        on_grid[:, 1] = picture[1] * GRID - on_grid[:, 1]
    return on_grid
