"""Values of a file that are whole trajectories: objects with lists, or lists of points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from magvit_runtime.clips.trajectories.columns import OPTIONAL, OTHER_NAMES, RawBlock, Values
from magvit_runtime.clips.trajectories.formats.json_values import Value
from magvit_runtime.clips.trajectories.names import column_name, name_of
from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem

# Members, or columns, that may hold a trajectory's points, [[x, y], ...].
POSITIONS = ("positions", "points", "xy")
_LISTS = (list, np.ndarray)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole trajectory."""
    if isinstance(value, dict):
        members = {column_name(key): item for key, item in value.items()}
        return any(isinstance(members.get(name), _LISTS) for name in ("x", *POSITIONS))
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def whole_blocks(values: Iterable[Value], report: ReadReport) -> Iterator[RawBlock]:
    """Yields whole trajectories; what is none is reported.

    Args:
        values: Objects with arrays x and y, or with [x, y] pairs in a member of `POSITIONS`; or
            such pairs alone. One without an id has its place, from 0. Arrays are of one dimension.
        report: Collects what can't be used.
    """
    knows_of_z = False
    for index, (row, value, wrong) in enumerate(values):
        if not is_whole(value):
            message = wrong or f"it is no trajectory, but {str(value)[:40]}"
            report.add(RowProblem(row, None, "bad_line", message, "refused"))
            continue
        members = value if isinstance(value, dict) else {"positions": value}
        columns, axes = _columns({column_name(key): item for key, item in members.items()}, index)
        name = name_of(columns.pop("id"))
        lengths = {column: len(items) for column, items in columns.items()}
        if len(set(lengths.values())) > 1 or not lengths["x"]:
            message = "it has no points" if not lengths["x"] else f"its lists differ: {lengths}"
            problem = "too_few_points" if not lengths["x"] else "mixed_lengths"
            report.add(RowProblem(row, name or None, problem, message, "refused"))
            continue
        if axes > 2 and not knows_of_z:
            knows_of_z = True
            message = "its points have more than two coordinates; x and y, the first two, are used"
            report.add(RowProblem(row, name, "further_axes", message, "repaired"))
        yield RawBlock(np.full(lengths["x"], row), {"id": [name] * lengths["x"], **columns})


def _columns(members: dict[str, Any], index: int) -> tuple[dict[str, Any], int]:
    """The id and the columns of one trajectory, and the coordinates of its points."""
    columns: dict[str, Any] = {"id": members.get("id", index)}
    points = next(
        (members[name] for name in POSITIONS if isinstance(members.get(name), list)), None
    )
    axes = 2
    if isinstance(members.get("x"), _LISTS):
        columns |= {"x": members["x"], "y": _list(members.get("y"))}
    elif points is not None:
        columns |= {"x": [_at(point, 0, "x") for point in points]}
        columns |= {"y": [_at(point, 1, "y") for point in points]}
        axes = max((len(point) for point in points if isinstance(point, list)), default=2)
        if any(isinstance(point, dict) and "t" in point for point in points):
            columns["t"] = [_at(point, -1, "t") for point in points]
    for column in OPTIONAL:
        for name in (column, *OTHER_NAMES[column]):
            if members.get(name) is not None and column not in columns:
                columns[column] = members[name]
    if "t" in columns:
        columns["t"] = _list(columns["t"])
    if "label" in columns and not isinstance(columns["label"], _LISTS):
        columns["label"] = [columns["label"]] * len(columns["x"])
    return columns, axes


def _list(value: Any) -> Values:
    return value if isinstance(value, _LISTS) else []


def _at(point: Any, place: int, name: str) -> Any:
    """A coordinate of a point, [x, y] or {"x": ..., "y": ...}; None where it isn't there."""
    if isinstance(point, dict):
        return point.get(name)
    return point[place] if isinstance(point, list) and len(point) > place >= 0 else None
