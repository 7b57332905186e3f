"""Values of a file that are whole trajectories: objects with lists, or lists of points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from magvit_runtime.clips.trajectories.columns import (
    OPTIONAL,
    OTHER_NAMES,
    WANTED,
    RawBlock,
    Values,
)
from magvit_runtime.clips.trajectories.formats.json_values import Value
from magvit_runtime.clips.trajectories.names import column_name, name_of
from magvit_runtime.clips.trajectories.positions import (
    LAYOUTS,
    NAMES,
    POINT,
    SAY_WHICH,
    SPACE,
    Layout,
    Positions,
    choose_layout,
    keys_of,
)
from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem
from magvit_runtime.errors import TrajectoryError

# Members, or columns, that may hold a trajectory's points, [[x, y], ...] or [[x, y, z], ...].
POINTS = ("positions", "points", "xyz", "xy")
# Those that may hold boxes of four numbers; what the numbers are has to be said.
BOXES = ("boxes", "bboxes", "bbox", "box")
POSITIONS = (*POINTS, *BOXES)
_LISTS = (list, np.ndarray)
_FIRST = tuple(name for part in ("x", "x1", "cx") for name in NAMES[part])


def is_whole(value: Any) -> bool:
    """Whether a value is a whole trajectory."""
    if isinstance(value, dict):
        members = {column_name(key): item for key, item in value.items()}
        return any(isinstance(members.get(name), _LISTS) for name in (*_FIRST, *POINTS)) or any(
            _holds_lists(members.get(name)) for name in BOXES
        )
    return _holds_lists(value)


def whole_blocks(
    path: Path, values: Iterable[Value], report: ReadReport, positions: Positions = "auto"
) -> Iterator[RawBlock]:
    """Yields whole trajectories; what is none is reported.

    Args:
        path: For messages.
        values: Objects with arrays x and y, or of another layout of `positions`; or with lists of
            numbers in a member of `POSITIONS`; or such lists alone. One without an id has its
            place, from 0. Arrays are of one dimension.
        report: Collects what can't be used.
        positions: What members are taken for.

    Raises:
        TrajectoryError: Positions are there in more than one way.
    """
    knows_of_more = False
    for index, (row, value, wrong) in enumerate(values):
        if not is_whole(value):
            message = wrong or f"it is no trajectory, but {str(value)[:40]}"
            report.add(RowProblem(row, None, "bad_line", message, "refused"))
            continue
        members = value if isinstance(value, dict) else {"positions": value}
        members = {column_name(key): item for key, item in members.items()}
        places, has_more = _places(path, members, positions)
        if not places:
            message = f"it has no {', '.join(WANTED[positions])}, but {', '.join(members)}"
            report.add(RowProblem(row, None, "bad_line", message[:200], "refused"))
            continue
        first = len(next(iter(places.values())))
        columns = {**places, **_others(members, "x" not in members, first)}
        name = name_of(members.get("id", index))
        lengths = {column: len(items) for column, items in columns.items()}
        if len(set(lengths.values())) > 1 or not first:
            message = "it has no points" if not first else f"its lists differ: {lengths}"
            problem = "too_few_points" if not first else "mixed_lengths"
            report.add(RowProblem(row, name or None, problem, message, "refused"))
            continue
        if has_more and not knows_of_more:
            knows_of_more = True
            message = "its points have further coordinates; x and y, the first two, are used"
            report.add(RowProblem(row, name, "further_axes", message, "repaired"))
        yield RawBlock(np.full(first, row), {"id": [name] * first, **columns})


def _places(
    path: Path, members: dict[str, Any], positions: Positions
) -> tuple[dict[str, Values], bool]:
    """The columns of one trajectory's positions, and whether its points have numbers of no use.

    Without positions there are no columns.
    """
    listed: dict[str, Values] = {
        name: item for name, item in members.items() if isinstance(item, _LISTS)
    }
    layout = choose_layout(path, keys_of(listed), positions)
    if layout is not None:
        places = {
            part: next(listed[name] for name in NAMES[key] if name in listed)
            for part, key in layout.items()
        }
        return places, False
    if "x" in listed and positions in ("auto", "xy"):
        return {"x": listed["x"], "y": _list(members.get("y"))}, False
    name = next((name for name in POSITIONS if isinstance(members.get(name), list)), None)
    if name is None:
        return {}, False
    points: list[Any] = members[name]
    numbers = max(map(_numbers, points), default=2)
    wanted = layout_of_lists(path, name, numbers, positions)
    found: dict[str, Values] = {
        part: [_at(point, at, part) for point in points] for at, part in enumerate(wanted)
    }
    return found, positions == "auto" and numbers > len(wanted)


def layout_of_lists(path: Path, name: str, numbers: int, positions: Positions) -> Layout:
    """What the numbers of points in lists are.

    Args:
        path: For messages.
        name: The member that holds the lists.
        numbers: Numbers of a point.
        positions: What members are taken for.

    Raises:
        TrajectoryError: They are boxes, and `positions` doesn't say of which kind.
    """
    if positions != "auto":
        return LAYOUTS[positions][-1]
    if name in BOXES:
        raise TrajectoryError(
            f"{path} has boxes of four numbers, which may be two corners, or one corner or the "
            "middle with width and height",
            found=f"a member {name}",
            mend=SAY_WHICH,
        )
    return SPACE if name == "xyz" or (numbers == 3 and name != "xy") else POINT


def _numbers(point: Any) -> int:
    if isinstance(point, dict):
        return 3 if "z" in point else 2
    return len(point) if isinstance(point, list) else 2


def _others(members: dict[str, Any], has_lists: bool, points: int) -> dict[str, Any]:
    """The times and labels of one trajectory."""
    columns: dict[str, Any] = {}
    for held in (members.get(name) for name in POSITIONS if has_lists):
        if isinstance(held, list):
            if any(isinstance(point, dict) and "t" in point for point in held):
                columns["t"] = [_at(point, -1, "t") for point in held]
            break
    for column in OPTIONAL:
        for name in (column, *OTHER_NAMES[column]):
            if members.get(name) is not None and column not in columns:
                columns[column] = members[name]
    if "t" in columns:
        columns["t"] = _list(columns["t"])
    if "label" in columns and not isinstance(columns["label"], _LISTS):
        columns["label"] = [columns["label"]] * points
    return columns


def _holds_lists(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _list(value: Any) -> Values:
    return value if isinstance(value, _LISTS) else []


def _at(point: Any, place: int, name: str) -> Any:
    """A coordinate of a point, [x, y] or {"x": ..., "y": ...}; None where it isn't there."""
    if isinstance(point, dict):
        return point.get(name)
    return point[place] if isinstance(point, list) and len(point) > place >= 0 else None
