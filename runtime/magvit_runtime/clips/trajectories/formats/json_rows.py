"""Reads trajectories from JSON, where an object is a row or a whole trajectory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from magvit_runtime.clips.trajectories.columns import (
    OPTIONAL,
    OTHER_NAMES,
    REQUIRED,
    RawBlock,
    Table,
    find_columns,
)
from magvit_runtime.clips.trajectories.formats.encodings import find_encoding, note_encoding
from magvit_runtime.clips.trajectories.formats.json_values import Value, json_values
from magvit_runtime.clips.trajectories.gathering import gather
from magvit_runtime.clips.trajectories.names import column_name
from magvit_runtime.clips.trajectories.points import Points
from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem
from magvit_runtime.clips.trajectories.whole import whole_trajectories
from magvit_runtime.errors import TrajectoryError

# Members that may hold a trajectory's points, [[x, y], ...].
POSITIONS = ("positions", "points", "xy")
# Members of an object around the trajectories that may hold them.
WRAPPERS = ("trajectories", "tracks", "records", "rows", "data")
BLOCK_ROWS = 4096
# Values that say what a file holds, and which members its rows have.
FIRST = 16


def json_points(path: Path, file: IO[bytes], report: ReadReport) -> Iterator[Points]:
    """Yields the points of each trajectory of a JSON file.

    The file is an array of objects, an object a line, or an object of them by id or in a member of
    `WRAPPERS`. An object is a row, with numbers x and y; or a trajectory, with arrays x and y
    or with [x, y] pairs in a member of `POSITIONS`. One object may also hold all columns of a
    table. Arrays and lines are streamed.

    Args:
        path: For messages.
        file: Open as long as points are read.
        report: Collects what can't be used.

    Raises:
        TrajectoryError: The file is empty or no JSON, or holds neither rows nor trajectories.
    """
    encoding = find_encoding(path, file)
    note_encoding(encoding, report)
    start = list(islice(json_values(path, file, encoding.name), 2))
    inner = _inner(path, start[0].value) if len(start) == 1 else None

    def values() -> Iterator[Value]:
        if inner is None:
            return json_values(path, file, encoding.name)
        return (Value(row, value) for row, value in enumerate(inner, start=1))

    first = list(islice(values(), FIRST))
    if not first:
        raise TrajectoryError(f"{path} is empty: it holds no trajectories")
    if any(_is_whole(value) for _, value, _ in first):
        return whole_trajectories(_trajectories(values(), report), report)
    keys = list(dict.fromkeys(key for _, value, _ in first for key in _members(value)))
    if not keys:
        raise TrajectoryError(
            f"{path} holds neither rows nor trajectories",
            found=first[0].wrong or str(first[0].value)[:80],
            expected='objects such as {"id": 1, "x": [0, 1], "y": [0, 1]}',
        )
    names = {column: keys[place] for column, place in find_columns(path, keys).items()}
    return gather(
        Table(
            path,
            ids=lambda: (block.columns["id"] for block in _rows(values(), names, ReadReport())),
            blocks=lambda report: _rows(values(), names, report),
        ),
        report,
    )


def _inner(path: Path, value: Any) -> list[Any] | None:
    """The rows or trajectories that an object holds; None where it is one itself."""
    if not isinstance(value, dict):
        return None
    keys = {column_name(key): key for key in value}
    if keys.keys() >= set(REQUIRED):
        return _rows_of_columns(path, {key: _cells(item) for key, item in value.items()})
    if _is_whole(value):
        return None
    for wrapper in WRAPPERS:
        inner = value.get(keys.get(wrapper, ""))
        if isinstance(inner, list) and isinstance(value.get("columns"), list):
            names = list(map(str, value["columns"]))
            return [dict(zip(names, row, strict=False)) for row in map(_list, inner)]
        if isinstance(inner, list):
            return inner
        if isinstance(inner, dict):
            return _inner(path, inner)
    if not all(map(_is_whole, value.values())):
        return None
    return [
        {"id": key, **item} if isinstance(item, dict) else {"id": key, "positions": item}
        for key, item in value.items()
    ]


def _rows_of_columns(path: Path, columns: dict[str, Any]) -> list[Any] | None:
    """The rows of a table that is one object; None where it is one row or one trajectory."""
    keys = list(columns)
    columns = {column: columns[keys[place]] for column, place in find_columns(path, keys).items()}
    if not isinstance(columns["id"], list):
        return None
    lengths = {
        column: len(items) if isinstance(items, list) else "no list"
        for column, items in columns.items()
    }
    if len(set(lengths.values())) > 1:
        raise TrajectoryError(f"{path} has columns of different lengths", found=lengths)
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _members(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _cells(column: Any) -> Any:
    """A column of a table; pandas also writes one as an object of values by index."""
    return list(column.values()) if isinstance(column, dict) else column


def _is_whole(value: Any) -> bool:
    """Whether a value is a whole trajectory."""
    if isinstance(value, dict):
        members = {column_name(key): item for key, item in value.items()}
        return isinstance(members.get("x"), list) or any(
            isinstance(members.get(name), list) for name in POSITIONS
        )
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _rows(values: Iterator[Value], names: dict[str, str], report: ReadReport) -> Iterator[RawBlock]:
    """Yields blocks of rows; what is no object is reported."""
    while some := list(islice(values, BLOCK_ROWS)):
        rows = []
        for row, value, wrong in some:
            if isinstance(value, dict) and not _is_whole(value):
                rows.append((row, value))
            else:
                message = wrong or f"it is no row, but {str(value)[:40]}"
                report.add(RowProblem(row, None, "bad_line", message, "dropped"))
        columns = {column: [value.get(name) for _, value in rows] for column, name in names.items()}
        yield RawBlock(np.array([row for row, _ in rows], np.int64), columns)


def _trajectories(values: Iterator[Value], report: ReadReport) -> Iterator[RawBlock]:
    """Yields whole trajectories; what is none is reported."""
    knows_of_z = False
    for index, (row, value, wrong) in enumerate(values):
        if not _is_whole(value):
            message = wrong or f"it is no trajectory, but {str(value)[:40]}"
            report.add(RowProblem(row, None, "bad_line", message, "refused"))
            continue
        members = value if isinstance(value, dict) else {"positions": value}
        columns, axes = _columns({column_name(key): item for key, item in members.items()}, index)
        name = str(columns.pop("id"))
        lengths = {column: len(items) for column, items in columns.items()}
        if len(set(lengths.values())) > 1 or not lengths["x"]:
            message = "it has no points" if not lengths["x"] else f"its lists differ: {lengths}"
            problem = "too_few_points" if not lengths["x"] else "mixed_lengths"
            report.add(RowProblem(row, name, problem, message, "refused"))
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
    if isinstance(members.get("x"), list):
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
    if "label" in columns and not isinstance(columns["label"], list):
        columns["label"] = [columns["label"]] * len(columns["x"])
    return columns, axes


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _at(point: Any, place: int, name: str) -> Any:
    """A coordinate of a point, [x, y] or {"x": ..., "y": ...}; None where it isn't there."""
    if isinstance(point, dict):
        return point.get(name)
    return point[place] if isinstance(point, list) and len(point) > place >= 0 else None
