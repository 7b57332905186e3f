"""Reads the rows of a text table: CSV in its dialects, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from magvit_runtime.clips.trajectories.columns import RawBlock, Table, Values
from magvit_runtime.clips.trajectories.formats.csv_dialect import Header, find_header
from magvit_runtime.clips.trajectories.formats.csv_lines import Records, fits, line_blocks, records
from magvit_runtime.clips.trajectories.formats.encodings import (
    Encoding,
    find_encoding,
    note_encoding,
)
from magvit_runtime.clips.trajectories.positions import Positions
from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem


def csv_table(
    path: Path, file: IO[bytes], names: Sequence[str] = (), positions: Positions = "auto"
) -> Table:
    """Finds out how a text table is written: its encoding, delimiter and header.

    Rows are numbered by line. Blank lines are skipped, and so are lines of nothing but delimiters,
    which Excel leaves at the end.

    Args:
        path: For messages.
        file: Open as long as the table is read.
        names: The names of its columns, where no header says them.
        positions: What its columns are taken for.

    Raises:
        TrajectoryError: The file is empty, isn't text, or its header or names can't be used.
    """
    encoding = find_encoding(path, file)
    header = find_header(path, file, encoding.name, names, positions)
    breaks: list[int] = []

    def blocks(report: ReadReport) -> Iterator[RawBlock]:
        note_encoding(encoding, report)
        return _blocks(file, encoding, header, report, breaks)

    return Table(path, lambda: _ids(file, encoding, header), blocks, breaks)


def _ids(file: IO[bytes], encoding: Encoding, header: Header) -> Iterator[Values]:
    """Yields the ids of all rows, and those of some lines that are none."""
    place = header.columns["id"]
    lines = line_blocks(file, encoding.name)
    for found in records(lines, header.layout, fields=place + 1):
        yield [row[place] for row in found.rows if len(row) > place]


def _blocks(
    file: IO[bytes], encoding: Encoding, header: Header, report: ReadReport, breaks: list[int]
) -> Iterator[RawBlock]:
    lines = line_blocks(file, encoding.name)
    for found in records(lines, header.layout):
        for line, message in found.bad:
            report.add(RowProblem(line, None, "bad_line", message, "dropped"))
        numbers, rows = _usable(found, header, report, breaks)
        if rows:
            columns = {name: [row[place] for row in rows] for name, place in header.columns.items()}
            yield RawBlock(np.array(numbers), columns)


def _usable(
    found: Records, header: Header, report: ReadReport, breaks: list[int]
) -> tuple[Sequence[int], list[list[str]]]:
    """Leaves out what is no row of the table, and reports it unless it is blank."""
    width = header.layout.width
    at = header.columns["id"]
    if set(map(len, found.rows)) == {width}:
        ids = {row[at].strip() for row in found.rows}
        if ids.isdisjoint(("", header.names[at])):
            return found.numbers, found.rows
    numbers, rows = [], []
    for number, row in zip(found.numbers, found.rows, strict=True):
        if not any(map(str.strip, row)):
            continue
        if [field.strip() for field in row[:width]] == header.names:
            breaks.append(number)
            message = "the header comes again"
            report.add(RowProblem(number, None, "repeated_header", message, "dropped"))
        elif fits(row, width):
            numbers.append(number)
            rows.append(row)
        else:
            message = f"it has {len(row)} fields, and {header.of} {width}"
            if len(row) > width and header.layout.delimiter == ",":
                message += " (decimal commas need quotes, or another delimiter)"
            report.add(RowProblem(number, None, "field_count", message, "dropped"))
    return numbers, rows
