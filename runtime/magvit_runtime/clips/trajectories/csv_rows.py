"""Reads the rows of a CSV file (UTF-8, commas, a header), line by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from magvit_runtime.clips.trajectories.columns import find_columns, point_row
from magvit_runtime.clips.trajectories.records import PointRow, ReadReport, RowProblem
from magvit_runtime.errors import TrajectoryError

MAX_LINE_BYTES = 65536


def csv_rows(path: Path, report: ReadReport) -> Iterator[PointRow]:
    """Yields the rows of a CSV file, numbered by line; blank lines are skipped.

    A field can't hold a line break: so an unclosed quote costs its own line and no other.

    Args:
        path: The file; a byte order mark is allowed.
        report: Collects lines that can't be parsed.

    Raises:
        TrajectoryError: The file is empty, isn't UTF-8, or its header can't be used.
    """
    columns: dict[str, int] = {}
    width = 0
    with path.open("rb") as file:
        for number, line in enumerate(_lines(file), start=1):
            try:
                fields = _fields(line, "utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise TrajectoryError(
                    f"{path}, line {number}, isn't UTF-8 text",
                    found=f"byte 0x{line[error.start]:02x} at place {error.start + 1}",
                    mend="save the file as UTF-8",
                ) from error
            except csv.Error as error:
                if not columns:
                    raise TrajectoryError(
                        f"{path}, line {number}: the header can't be read",
                        found=error,
                        expected="a line such as id,x,y,t,label",
                    ) from error
                report.add(RowProblem(number, None, "bad_line", str(error), "dropped"))
                continue
            if not fields:
                continue
            if not columns:
                columns = find_columns(path, [name.strip() for name in fields])
                width = len(fields)
                continue
            if len(fields) != width:
                message = f"it has {len(fields)} fields, and the header has {width}"
                report.add(RowProblem(number, None, "field_count", message, "dropped"))
                continue
            yield point_row(number, {name: fields[place] for name, place in columns.items()})
    if not columns:
        raise TrajectoryError(f"{path} is empty", expected="a header such as id,x,y,t,label")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yields the lines, of an overlong one only its first MAX_LINE_BYTES + 1 bytes."""
    limit = MAX_LINE_BYTES + 1
    while line := file.readline(limit):
        yield line
        while len(line) == limit and not line.endswith(b"\n"):
            line = file.readline(limit)


def _fields(line: bytes, encoding: str) -> list[str]:
    """Splits one line; a blank one has no fields."""
    if len(line) > MAX_LINE_BYTES:
        raise csv.Error(f"the line is longer than {MAX_LINE_BYTES} bytes")
    text = line.decode(encoding)
    return next(csv.reader([text], strict=True, skipinitialspace=True)) if text.strip() else []
