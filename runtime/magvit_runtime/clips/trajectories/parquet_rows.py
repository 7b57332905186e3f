"""Reads the rows of a Parquet file, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from magvit_runtime.clips.trajectories.columns import find_columns, point_row
from magvit_runtime.clips.trajectories.records import PointRow
from magvit_runtime.errors import TrajectoryError
from magvit_runtime.hardware.packages import missing_package

BATCH_ROWS = 4096
READ_BUFFER_BYTES = 1 << 16


def parquet_rows(path: Path) -> Iterator[PointRow]:
    """Yields the rows of a Parquet file, the first numbered 1.

    Raises:
        MissingPackageError: pyarrow isn't installed.
        TrajectoryError: The file is damaged, or its columns can't be used.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_package("pyarrow", f"reading {path}") from error

    try:
        # Without these two options pyarrow holds whole column chunks in memory.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BUFFER_BYTES) as file:
            schema = file.schema_arrow
            present = list(find_columns(path, schema.names))
            for name in present:
                _check_type(path, name, schema.field(name).type)
            row = 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=present):
                columns = [batch.column(name).to_pylist() for name in present]
                for values in zip(*columns, strict=True):
                    row += 1
                    yield point_row(row, dict(zip(present, values, strict=True)))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TrajectoryError(
            f"{path} can't be read as Parquet",
            found=error,
            mend="write or copy the file again: it is damaged, cut short or in another format",
        ) from error


def _check_type(path: Path, column: str, found: Any) -> None:
    from pyarrow import types

    if types.is_dictionary(found):
        found = found.value_type
    usable = (
        types.is_integer(found)
        or types.is_floating(found)
        or types.is_decimal(found)
        or types.is_string(found)
        or types.is_large_string(found)
        or types.is_null(found)
    )
    if not usable:
        raise TrajectoryError(
            f"{path}: the column {column} has a type that can't be used",
            found=found,
            expected="numbers or text",
            mend=f"convert {column} before writing the file, times to seconds",
        )
