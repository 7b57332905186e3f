"""Reads the rows of a Parquet file, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from magvit_runtime.clips.trajectories.columns import RawBlock, Table, Values, find_columns
from magvit_runtime.errors import TrajectoryError
from magvit_runtime.hardware.packages import missing_package

BATCH_ROWS = 4096
READ_BUFFER_BYTES = 1 << 16


def parquet_table(path: Path) -> Table:
    """Finds our columns in a Parquet file; its first row is numbered 1.

    Raises:
        MissingPackageError: pyarrow isn't installed.
        TrajectoryError: The file is damaged, or its columns can't be used.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_package("pyarrow", f"reading {path}") from error

    def batches(wanted: Sequence[str] | None = None) -> Iterator[dict[str, Values]]:
        try:
            # Without these two options pyarrow holds whole column chunks in memory.
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BUFFER_BYTES) as file:
                schema = file.schema_arrow
                places = find_columns(path, schema.names)
                names = {column: schema.names[place] for column, place in places.items()}
                for column, name in names.items():
                    _check_type(path, column, schema.field(name).type)
                names = {column: names[column] for column in wanted or names}
                yield {}  # The columns can be used.
                for batch in file.iter_batches(BATCH_ROWS, columns=list(names.values())):
                    yield {column: _values(batch.column(name)) for column, name in names.items()}
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise TrajectoryError(
                f"{path} can't be read as Parquet",
                found=error,
                mend="write or copy the file again: it is damaged, cut short or in another format",
            ) from error

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
