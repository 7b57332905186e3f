"""Reads the rows of a Parquet file, points or whole trajectories, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from magvit_runtime.clips.trajectories.columns import (
    RawBlock,
    Table,
    Values,
    find_columns,
    match_columns,
)
from magvit_runtime.clips.trajectories.formats.json_values import Value
from magvit_runtime.clips.trajectories.formats.whole_values import (
    POINTS,
    POSITIONS,
    whole_blocks,
)
from magvit_runtime.clips.trajectories.gathering import gather
from magvit_runtime.clips.trajectories.names import column_name
from magvit_runtime.clips.trajectories.points import Points
from magvit_runtime.clips.trajectories.positions import PARTS, Positions
from magvit_runtime.clips.trajectories.records import ReadReport
from magvit_runtime.clips.trajectories.whole import whole_trajectories
from magvit_runtime.errors import TrajectoryError
from magvit_runtime.hardware.packages import missing_package

BATCH_ROWS = 4096
BATCH_TRAJECTORIES = 64
READ_BUFFER_BYTES = 1 << 16


def parquet_points(
    path: Path, report: ReadReport, positions: Positions = "auto"
) -> Iterator[Points]:
    """Yields the points of each trajectory of a Parquet file; its first row is numbered 1.

    A row is a point; or, where its positions are columns of lists, or a column of `POSITIONS` is
    one of lists of points, a whole trajectory.

    Args:
        path: The file.
        report: Collects what can't be used.
        positions: What its columns are taken for.

    Raises:
        MissingPackageError: pyarrow isn't installed.
        TrajectoryError: The file is damaged, or its columns can't be used.
    """
    lists = _list_columns(path, positions)
    if lists:
        blocks = whole_blocks(path, _trajectories(path, lists), report, positions)
        return whole_trajectories(blocks, report)
    return gather(_table(path, positions), report)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_package("pyarrow", f"reading {path}") from error
    try:
        # Opened here, for pyarrow takes no name that isn't UTF-8. Without the two options it holds
        # whole column chunks in memory.
        with (
            path.open("rb") as plain,
            pq.ParquetFile(plain, pre_buffer=False, buffer_size=READ_BUFFER_BYTES) as file,
        ):
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TrajectoryError(
            f"{path} can't be read as Parquet",
            found=error,
            mend="write or copy the file again: it is damaged, cut short or in another format",
        ) from error


def _list_columns(path: Path, positions: Positions) -> dict[str, str]:
    """Names of our columns and of one with points, where a row holds a whole trajectory."""
    with _opened(path) as file:
        schema = file.schema_arrow
        names = list(schema.names)
        places = match_columns(path, names, positions)
        known = {column: names[place] for column, place in places.items()}
        first = next((part for part in PARTS if part in known), None)
        points = {column_name(name): name for name in names if column_name(name) in POSITIONS}
        if first:
            return known if _is_list(schema.field(known[first]).type) else {}
        for position in POSITIONS:
            kind: Any = schema.field(points[position]).type if position in points else None
            if _is_list(kind) and (position in POINTS or _is_list(kind.value_type)):
                return known | {position: points[position]}
        return {}


def _trajectories(path: Path, names: dict[str, str]) -> Iterator[Value]:
    row = 0
    with _opened(path) as file:
        for batch in file.iter_batches(BATCH_TRAJECTORIES, columns=list(names.values())):
            columns = {column: batch.column(name) for column, name in names.items()}
            for place in range(batch.num_rows):
                row += 1
                yield Value(row, {name: _cell(name, columns[name], place) for name in columns})


def _cell(column: str, values: Any, place: int) -> Any:
    cell = values[place]
    # Lists of time stamps come as an array, which keeps all that they are.
    if column in (*PARTS, "t") and _is_list(values.type) and cell.is_valid:
        return _values(cell.values)
    return cell.as_py()


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return kind is not None and bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _table(path: Path, positions: Positions) -> Table:
    def batches(wanted: Sequence[str] | None = None) -> Iterator[dict[str, Values]]:
        with _opened(path) as file:
            schema = file.schema_arrow
            places = find_columns(path, schema.names, positions)
            names = {column: schema.names[place] for column, place in places.items()}
            for column, name in names.items():
                _check_type(path, column, schema.field(name).type)
            names = {column: names[column] for column in wanted or names}
            yield {}  # The columns can be used.
            for batch in file.iter_batches(BATCH_ROWS, columns=list(names.values())):
                yield {column: _values(batch.column(name)) for column, name in names.items()}

    def blocks(*_: object) -> Iterator[RawBlock]:
        row = 1
        for columns in batches():
            if columns:
                count = len(columns["id"])
                yield RawBlock(np.arange(row, row + count), columns)
                row += count

    next(batches(), None)
    return Table(path, lambda: (columns["id"] for columns in batches(["id"]) if columns), blocks)


def _values(column: Any) -> Values:
    """Gives a column's values as an array where that keeps them all, else as a list."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    has_nat = types.is_date(kind) or types.is_timestamp(kind) or types.is_duration(kind)
    is_number = types.is_integer(kind) or types.is_floating(kind)
    # Arrow makes integers with a missing value floats, which long times and ids don't survive.
    if has_nat or (is_number and column.null_count == 0):
        array: Values = column.to_numpy(zero_copy_only=False)
        return array
    values: list[Any] = column.to_pylist()
    return values


def _check_type(path: Path, column: str, found: Any) -> None:
    from pyarrow import types

    if types.is_dictionary(found):
        found = found.value_type
    is_name = column in ("id", "label")
    usable = (
        types.is_integer(found)
        or types.is_floating(found)
        or types.is_decimal(found)
        or types.is_string(found)
        or types.is_large_string(found)
        or types.is_string_view(found)
        or types.is_null(found)
        or (is_name and types.is_boolean(found))
        or (is_name and (types.is_binary(found) or types.is_large_binary(found)))
        or (is_name and (types.is_binary_view(found) or types.is_fixed_size_binary(found)))
        or (column == "t" and (types.is_date(found) or types.is_timestamp(found)))
        or (column == "t" and types.is_duration(found))
    )
    if not usable:
        raise TrajectoryError(
            f"{path}: the column {column} has a type that can't be used",
            found=found,
            expected="numbers, text, or dates with times" if column == "t" else "numbers or text",
            mend=f"convert {column} before writing the file",
        )
