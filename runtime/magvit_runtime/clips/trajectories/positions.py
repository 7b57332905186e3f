"""Which columns say where something is: a point, a point in space, or a box.

| columns        | also named                                | taken for            |
|----------------|-------------------------------------------|----------------------|
| x, y           |                                           | a point              |
| x, y, z        |                                           | a point in space     |
| x, y, w, h     | width, height                             | a box, from a corner |
| x1, y1, w, h   | left, top; bb_left, bb_top; xmin, ymin; … | a box, from a corner |
| cx, cy, w, h   | xc, yc; x_center, y_center; …             | a box, from its middle |
| x1, y1, x2, y2 | xmin … ymax; left, top, right, bottom     | a box, of two corners |

A file whose columns fit two kinds of these is refused: only its user knows which are meant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from magvit_runtime.errors import TrajectoryError

# What a file's columns are taken for. "auto": what their names say.
Positions = Literal["auto", "xy", "xyz", "corner-boxes", "center-boxes", "corners"]

_BOX = ("", "bb_", "bbox_", "box_")
# Names of each column; the first found counts.
NAMES: dict[str, tuple[str, ...]] = {
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "x1": ("x1", "xmin", "x_min", *(f"{box}left" for box in _BOX), "x_left"),
    "y1": ("y1", "ymin", "y_min", *(f"{box}top" for box in _BOX), "y_top"),
    "x2": ("x2", "xmax", "x_max", *(f"{box}right" for box in _BOX), "x_right"),
    "y2": ("y2", "ymax", "y_max", *(f"{box}bottom" for box in _BOX), "y_bottom"),
    "cx": ("cx", "xc", "x_center", "x_centre", "xcenter", "center_x", "centre_x"),
    "cy": ("cy", "yc", "y_center", "y_centre", "ycenter", "center_y", "centre_y"),
    "w": ("w", *(f"{box}width" for box in _BOX), "bb_w", "bbox_w", "box_w"),
    "h": ("h", *(f"{box}height" for box in _BOX), "bb_h", "bbox_h", "box_h"),
}

# What rows hold, and the file's column that each part is. (x, y, w, h) begins with the corner.
Layout = dict[str, str]
POINT: Layout = {"x": "x", "y": "y"}
SPACE: Layout = {"x": "x", "y": "y", "z": "z"}
TWO_CORNERS: Layout = {"x1": "x1", "y1": "y1", "x2": "x2", "y2": "y2"}
NAMED_CORNER: Layout = {"x": "x1", "y": "y1", "w": "w", "h": "h"}
NAMED_CENTER: Layout = {"cx": "cx", "cy": "cy", "w": "w", "h": "h"}
CORNER: Layout = {"x": "x", "y": "y", "w": "w", "h": "h"}
CENTER: Layout = {"cx": "x", "cy": "y", "w": "w", "h": "h"}

LAYOUTS: dict[Positions, tuple[Layout, ...]] = {
    "xy": (POINT,),
    "xyz": (SPACE,),
    "corner-boxes": (NAMED_CORNER, CORNER),
    "center-boxes": (NAMED_CENTER, CENTER),
    "corners": (TWO_CORNERS,),
}
# Every part that rows may hold.
PARTS = ("x", "y", "z", "x1", "y1", "x2", "y2", "cx", "cy", "w", "h")
SAY_WHICH = (
    "say which is meant: --positions xy, xyz, corner-boxes (x, y, w, h from the top left), "
    'center-boxes (x, y, w, h from the middle) or corners (in Python: positions="xy")'
)


def keys_of(names: Iterable[str]) -> set[str]:
    """The keys of `NAMES` that are among names, which `column_name` gave."""
    compared = set(names)
    return {key for key, others in NAMES.items() if not compared.isdisjoint(others)}


def choose_layout(path: Path, there: Collection[str], positions: Positions) -> Layout | None:
    """Says which of the columns that are there hold positions.

    Args:
        path: For messages.
        there: The keys of `NAMES` that the file has.
        positions: What its columns are to be taken for.

    Returns:
        The layout; None where the columns make none.

    Raises:
        TrajectoryError: They make more than one, and `positions` is "auto".
    """

    def fitting(*layouts: Layout) -> list[Layout]:
        return [layout for layout in layouts if set(layout.values()) <= set(there)]

    if positions != "auto":
        return next(iter(fitting(*LAYOUTS[positions])), None)
    # These agree with each other where a file has several.
    boxes = fitting(TWO_CORNERS, NAMED_CORNER, NAMED_CENTER)[:1]
    further = fitting(SPACE, CORNER) or fitting(POINT)
    found = [*boxes, *further]
    if len(found) > 1:
        raise TrajectoryError(
            f"{path} says in more than one way where things are",
            found=" and ".join("(" + ", ".join(layout.values()) + ")" for layout in found),
            mend=SAY_WHICH,
        )
    return next(iter(found), None)
