"""The columns of a trajectory file, whatever its format: id, positions, t and label."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.names import column_name
from magvit_runtime.clips.trajectories.positions import (
    NAMES,
    Positions,
    choose_layout,
    keys_of,
)
from magvit_runtime.clips.trajectories.records import ReadReport
from magvit_runtime.errors import TrajectoryError

OPTIONAL = ("t", "label")
# Other names of columns that can be left out, the first found counts. Without them a file of
# frame, id, x, y would be read, and its times be lost without a word.
OTHER_NAMES = {"t": ("time", "timestamp", "frame"), "label": ("class",)}
# Columns that messages ask for.
WANTED: dict[Positions, tuple[str, ...]] = {
    "auto": ("x", "y"),
    "xy": ("x", "y"),
    "xyz": ("x", "y", "z"),
    "corner-boxes": ("x", "y", "w", "h"),
    "center-boxes": ("cx", "cy", "w", "h"),
    "corners": ("x1", "y1", "x2", "y2"),
}
# How columns are named where a file doesn't: on the command line, and in Python.
NAMING = '--columns frame,id,x,y (in Python: columns=("frame", "id", "x", "y"))'

# Values of one column: what a text file or pylist holds, or an array of one type.
Values = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True, eq=False)
class RawBlock:
    """Some consecutive rows of a file, with values as the file has them.

    Attributes:
        rows: int64 [rows], numbered as `Trajectory.first_row`.
        columns: Values [rows] of id, the parts of one layout of `positions` and, where the file has
            them, t and label.
    """

    rows: NDArray[np.int64]
    columns: Mapping[str, Values]


@dataclass(frozen=True)
class Table:
    """A file of one row a point, which can be read from its start any number of times.

    Attributes:
        path: For messages.
        ids: Gives the ids alone, block by block.
        blocks: Gives all rows, and reports those that can't be taken apart.
        breaks: Rows at which the header came again; complete when all blocks were read.
    """

    path: Path
    ids: Callable[[], Iterator[Values]]
    blocks: Callable[[ReadReport], Iterator[RawBlock]]
    breaks: list[int] = field(default_factory=list)


def find_columns(path: Path, names: Sequence[str], positions: Positions = "auto") -> dict[str, int]:
    """Returns the place of each of our columns that the file has; others are ignored.

    A name in other case or with blanks around it is taken where there is none that is written
    exactly so; t and label may also have one of `OTHER_NAMES`, and positions those of
    `positions.NAMES`.

    Raises:
        TrajectoryError: A required column is missing, or one of ours is there twice, or positions
            are there in more than one way.
    """
    places = match_columns(path, names, positions)
    if not has_columns(path, names, positions):
        there = {*map(column_name, names)} | keys_of(map(column_name, names))
        missing = [name for name in ("id", *WANTED[positions]) if name not in there]
        raise TrajectoryError(
            f"{path} has no column {', '.join(missing)}",
            found=_listed(names) or "no columns",
            expected="id, x, y and, where known, t and label; also z, or w and h of a box",
            mend="name the columns so: a CSV in its first line, with commas, semicolons, tabs, | "
            f"or blanks between the names; or say what its columns are, such as {NAMING}",
        )
    return places


def has_columns(path: Path, names: Sequence[str], positions: Positions) -> bool:
    """Whether names are those of a header: an id and whole positions are among them."""
    there = "id" in map(column_name, names)
    return there and choose_layout(path, keys_of(map(column_name, names)), positions) is not None


def match_columns(
    path: Path, names: Sequence[str], positions: Positions = "auto"
) -> dict[str, int]:
    """As `find_columns`, but any column may be missing; of positions, all are there or none."""
    compared = [column_name(name) for name in names]
    layout = choose_layout(path, keys_of(map(column_name, names)), positions) or {}
    wanted: dict[str, tuple[str, ...]] = {"id": ("id",)}
    wanted |= {part: NAMES[key] for part, key in layout.items()}
    wanted |= {column: (column, *OTHER_NAMES[column]) for column in OPTIONAL}
    places = {}
    for column, others in wanted.items():
        for name in others:
            exact = [place for place, found in enumerate(names) if found == name]
            alike = [place for place, found in enumerate(compared) if found == name]
            if len(exact or alike) > 1:
                raise TrajectoryError(
                    f"{path} has more than one column {name}",
                    found=_listed(names),
                    mend="rename or remove all but one",
                )
            if alike:
                places[column] = (exact or alike)[0]
                break
    return places


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names[:20])
