"""The columns of a trajectory file, whatever its format: id, x, y and, where given, t and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from magvit_runtime.clips.trajectories.records import PointRow
from magvit_runtime.errors import TrajectoryError

REQUIRED = ("id", "x", "y")
OPTIONAL = ("t", "label")


def find_columns(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Returns the place of each of our columns that the file has; others are ignored.

    Raises:
        TrajectoryError: A required column is missing, or one of ours is there twice.
    """
    found = ", ".join(repr(name[:40]) for name in names[:20])
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise TrajectoryError(
            f"{path} has no column {', '.join(missing)}",
            found=found or "no columns",
            expected="id, x, y and, where known, t and label",
            mend="name the columns so; the header of a CSV is its first line, with commas",
        )
    places = {name: names.index(name) for name in (*REQUIRED, *OPTIONAL) if name in names}
    twice = [name for name in places if names.count(name) > 1]
    if twice:
        raise TrajectoryError(
            f"{path} has more than one column {', '.join(twice)}",
            found=found,
            mend="rename or remove all but one",
        )
    return places


def point_row(row: int, values: Mapping[str, object]) -> PointRow:
    """Makes one row of the values of the columns that the file has; None is a missing value."""
    numbers = {name: "" if value is None else value for name, value in values.items()}
    return PointRow(
        row=row,
        id=as_text(values["id"]),
        x=numbers["x"],
        y=numbers["y"],
        t=numbers.get("t"),
        label=as_text(values["label"]) if "label" in values else None,
    )


def as_text(value: object) -> str:
    """Gives an id or label as text; a missing one (None, NaN) as the empty string."""
    return "" if value is None or value != value else str(value).strip()
