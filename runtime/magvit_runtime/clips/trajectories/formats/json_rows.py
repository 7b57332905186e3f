"""Reads trajectories from JSON, where an object is a row or a whole trajectory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from magvit_runtime.clips.trajectories.columns import (
    RawBlock,
    Table,
    find_columns,
    has_columns,
    match_columns,
)
from magvit_runtime.clips.trajectories.formats.encodings import find_encoding, note_encoding
from magvit_runtime.clips.trajectories.formats.json_values import Value, json_values
from magvit_runtime.clips.trajectories.formats.whole_values import (
    POSITIONS,
    is_whole,
    layout_of_lists,
    whole_blocks,
)
from magvit_runtime.clips.trajectories.gathering import gather
from magvit_runtime.clips.trajectories.names import column_name
from magvit_runtime.clips.trajectories.points import Points
from magvit_runtime.clips.trajectories.positions import Layout, Positions
from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem
from magvit_runtime.clips.trajectories.whole import whole_trajectories
from magvit_runtime.errors import TrajectoryError

# Members of an object around the trajectories that may hold them.
WRAPPERS = ("trajectories", "tracks", "records", "rows", "data")
# Members of a row that may hold its position, as a list of numbers.
POSITIONS_OF_ROWS = ("position", "point", "bbox", "box")
BLOCK_ROWS = 4096
# Values that say what a file holds, and which members its rows have.
FIRST = 16


def json_points(
    path: Path, file: IO[bytes], report: ReadReport, positions: Positions = "auto"
) -> Iterator[Points]:
    """Yields the points of each trajectory of a JSON file.

    The file is an array of objects, an object a line, or an object of them by id or in a member of
    `WRAPPERS`. An object is a row, with numbers x and y or a list of them in a member of
    `POSITIONS_OF_ROWS`; or a trajectory, with arrays x and y or
    with lists [x, y] or [x, y, z] in a member of `POSITIONS`. One object may also hold all columns
    of a table. Arrays and lines are streamed.

    Args:
        path: For messages.
        file: Open as long as points are read.
        report: Collects what can't be used.
        positions: What its members are taken for.

    Raises:
        TrajectoryError: The file is empty or no JSON, or holds neither rows nor trajectories.
    """
    encoding = find_encoding(path, file)
    note_encoding(encoding, report)
    start = list(islice(json_values(path, file, encoding.name), 2))
    inner = _inner(path, start[0].value, positions) if len(start) == 1 else None

    def values() -> Iterator[Value]:
        if inner is None:
            return json_values(path, file, encoding.name)
        return (Value(row, value) for row, value in enumerate(inner, start=1))

    first = list(islice(values(), FIRST))
    if not first:
        raise TrajectoryError(f"{path} is empty: it holds no trajectories")
    if any(is_whole(value) for _, value, _ in first):
        return whole_trajectories(whole_blocks(path, values(), report, positions), report)
    keys = _keys(first)
    listed = _place_in_a_list(path, keys, first, positions)
    if listed:
        keys = _keys(_with_parts(first, *listed))

    def rows() -> Iterator[Value]:
        return _with_parts(values(), *listed) if listed else values()

    if not keys:
        raise TrajectoryError(
            f"{path} holds neither rows nor trajectories",
            found=first[0].wrong or str(first[0].value)[:80],
            expected='objects such as {"id": 1, "x": [0, 1], "y": [0, 1]}',
        )
    names = {column: keys[place] for column, place in find_columns(path, keys, positions).items()}
    return gather(
        Table(
            path,
            ids=lambda: (block.columns["id"] for block in _rows(rows(), names, ReadReport())),
            blocks=lambda report: _rows(rows(), names, report),
        ),
        report,
    )


def _keys(values: Iterable[Value]) -> list[str]:
    return list(dict.fromkeys(key for _, value, _ in values for key in _members(value)))


def _place_in_a_list(
    path: Path, keys: list[str], first: list[Value], positions: Positions
) -> tuple[str, Layout] | None:
    """The member of rows whose list is a position, and what its numbers are; None without one."""
    held = next((key for key in keys if column_name(key) in POSITIONS_OF_ROWS), None)
    if held is None or has_columns(path, keys, positions):
        return None
    numbers = max(len(_list(_members(value).get(held))) for _, value, _ in first)
    return (held, layout_of_lists(path, column_name(held), numbers, positions)) if numbers else None


def _with_parts(values: Iterable[Value], held: str, layout: Layout) -> Iterator[Value]:
    """Gives rows whose list has become members of its own."""
    for row, value, wrong in values:
        if isinstance(value, dict):
            numbers = _list(value.get(held))
            numbers = numbers + [None] * (len(layout) - len(numbers))
            value = value | dict(zip(layout, numbers, strict=False))
        yield Value(row, value, wrong)


def _inner(path: Path, value: Any, positions: Positions) -> list[Any] | None:
    """The rows or trajectories that an object holds; None where it is one itself."""
    if not isinstance(value, dict):
        return None
    keys = {column_name(key): key for key in value}
    if has_columns(path, list(value), positions) or (
        "id" in keys and _has_points_by_row(value, keys)
    ):
        columns = {key: _cells(item) for key, item in value.items()}
        return _rows_of_columns(path, columns, positions)
    if is_whole(value):
        return None
    for wrapper in WRAPPERS:
        inner = value.get(keys.get(wrapper, ""))
        if isinstance(inner, list) and isinstance(value.get("columns"), list):
            names = list(map(str, value["columns"]))
            return [dict(zip(names, row, strict=False)) for row in map(_list, inner)]
        if isinstance(inner, list):
            return inner
        if isinstance(inner, dict):
            return _inner(path, inner, positions)
    if not all(map(is_whole, value.values())):
        return None
    return [
        {"id": key, **item} if isinstance(item, dict) else {"id": key, "positions": item}
        for key, item in value.items()
    ]


def _rows_of_columns(path: Path, columns: dict[str, Any], positions: Positions) -> list[Any] | None:
    """The rows of a table that is one object; None where it is one row or one trajectory."""
    keys = list(columns)
    places = match_columns(path, keys, positions)
    known = {column: columns[keys[place]] for column, place in places.items()}
    known |= {column_name(key): columns[key] for key in keys if column_name(key) in POSITIONS}
    columns = known
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


def _has_points_by_row(value: dict[str, Any], keys: dict[str, str]) -> bool:
    """Whether an object has a list of ids, and one of each one's points."""
    points = next((value[keys[name]] for name in POSITIONS if name in keys), None)
    return isinstance(_cells(value[keys["id"]]), list) and isinstance(_cells(points), list)


def _members(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _cells(column: Any) -> Any:
    """A column of a table; pandas also writes one as an object of values by index."""
    return list(column.values()) if isinstance(column, dict) else column


def _rows(values: Iterator[Value], names: dict[str, str], report: ReadReport) -> Iterator[RawBlock]:
    """Yields blocks of rows; what is no object is reported."""
    while some := list(islice(values, BLOCK_ROWS)):
        rows = []
        for row, value, wrong in some:
            if isinstance(value, dict) and not is_whole(value):
                rows.append((row, value))
            else:
                message = wrong or f"it is no row, but {str(value)[:40]}"
                report.add(RowProblem(row, None, "bad_line", message, "dropped"))
        columns = {column: [value.get(name) for _, value in rows] for column, name in names.items()}
        yield RawBlock(np.array([row for row, _ in rows], np.int64), columns)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
