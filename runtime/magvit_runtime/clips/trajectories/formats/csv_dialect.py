"""Finds the delimiter and the header of a text table."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from magvit_runtime.clips.trajectories.columns import NAMING, find_columns, has_columns
from magvit_runtime.clips.trajectories.formats.csv_lines import (
    BLANKS,
    Layout,
    first_record,
    fits,
    line_blocks,
)
from magvit_runtime.clips.trajectories.names import MISSING
from magvit_runtime.clips.trajectories.positions import PARTS, Positions
from magvit_runtime.errors import TrajectoryError

DELIMITERS = (",", ";", "\t", "|", BLANKS)
# Lines that say which delimiter rows have where there is no header.
FIRST_LINES = 100
# What Excel reads, and leaves out, before the header.
_SEPARATOR_LINE = re.compile(r'\s*"?sep=(.)"?[\s,;|]*', re.IGNORECASE)
_COMMENT = re.compile(r"\s*#+\s*")
_EXAMPLE = "a line such as id,x,y,t,label"


@dataclass(frozen=True)
class Header:
    """The first line of a table that isn't blank, or what was given in its place.

    Attributes:
        layout: What it says of the lines that follow.
        names: The names of its columns, without empty ones at its end.
        columns: Place of each of our columns.
        of: What has so many columns, for messages.
    """

    layout: Layout
    names: list[str]
    columns: dict[str, int]
    of: str = "the header has"


def find_header(
    path: Path,
    file: IO[bytes],
    encoding: str,
    named: Sequence[str] = (),
    positions: Positions = "auto",
) -> Header:
    """Finds the header, with the delimiter that makes an id and positions of it.

    Args:
        path: For messages.
        file: At any place; left at any.
        encoding: Python's name of the file's encoding.
        named: The names of the columns. The first line then is a row, or names that these
            replace, and the delimiter the one that makes rows with numbers of the first lines.
        positions: What its columns are taken for.

    Raises:
        TrajectoryError: There is no line, or no header in the first; or a column is missing.
    """
    lines = next(line_blocks(file, encoding), [])
    skipped = next((place for place, line in enumerate(lines) if line.strip()), None)
    if skipped is None:
        raise TrajectoryError(f"{path} is empty", expected=f"a header: {_EXAMPLE}")
    delimiters: tuple[str, ...] = DELIMITERS
    if found := _SEPARATOR_LINE.fullmatch(lines[skipped]):
        delimiters = (found[1], *DELIMITERS)
        skipped += 1
    lines = lines[skipped:] or [""]
    if named:
        columns = find_columns(
            Path("the list of columns"), [name.strip() for name in named], positions
        )
        return _named_header(path, lines[:FIRST_LINES], delimiters, named, columns, skipped)

    # A comment sign before the names, as numpy.savetxt writes it.
    lines[0] = _COMMENT.sub("", lines[0])
    best: list[str] = []
    wrong: csv.Error | None = None
    for delimiter in delimiters:
        try:
            fields, used = first_record(lines, delimiter)
        except csv.Error as error:
            wrong = wrong or error
            continue
        names = _without_last_empty(fields)
        if has_columns(path, names, positions):
            layout = Layout(delimiter, len(names), skipped + used)
            return Header(layout, names, find_columns(path, names, positions))
        best = max(best, names, key=len)
    if wrong:
        raise TrajectoryError(
            f"{path}, line {skipped + 1}: the header can't be read",
            found=wrong,
            expected=_EXAMPLE,
        )
    if best and all(map(_is_number, best)):
        raise TrajectoryError(
            f"{path} begins with numbers, and has no header",
            found=", ".join(best[:10]),
            mend=f"say what the columns are, in their order, such as {NAMING}; "
            "or name them in a first line",
        )
    find_columns(path, best, positions)  # It says what is missing.
    raise AssertionError("the header has what it was refused for")


def _named_header(
    path: Path,
    lines: list[str],
    delimiters: Sequence[str],
    named: Sequence[str],
    columns: dict[str, int],
    skipped: int,
) -> Header:
    names = [name.strip() for name in named]
    numbers = [place for part, place in columns.items() if part in PARTS]
    rows = {delimiter: _rows(lines, delimiter) for delimiter in delimiters}
    fitting = {
        delimiter: sum(
            fits(row, len(names)) and all(_is_number(row[place]) for place in numbers)
            for row in found
        )
        for delimiter, found in rows.items()
    }
    delimiter = max(delimiters, key=lambda delimiter: fitting[delimiter])  # The first of equals.
    if not fitting[delimiter]:
        most = max((row for found in rows.values() for row in found), key=len, default=[])
        raise TrajectoryError(
            f"{path} doesn't have the columns that are named: none of its first "
            f"{len(lines)} lines has {len(names)} fields with numbers as "
            + " and ".join(part for part in columns if part in PARTS),
            found=f"{len(most)} fields: {', '.join(most)[:80]}",
            expected=f"{len(names)} fields: {', '.join(names)[:80]}",
            mend=f"name every column, in their order, such as {NAMING}; "
            "those that aren't needed may have any other name",
        )
    if any(_are_names(row, len(names)) for row in _rows(lines[:1], delimiter)):
        skipped += 1  # These stand in the place of the file's own.
    return Header(Layout(delimiter, len(names), skipped), names, columns, "the columns named are")


def _rows(lines: list[str], delimiter: str) -> list[list[str]]:
    rows = []
    for line in lines:
        try:
            fields, _ = first_record([line], delimiter)
        except csv.Error:
            continue
        rows.append(_without_last_empty(fields))
    return rows


def _are_names(row: list[str], count: int) -> bool:
    """Whether the first line is a header: neither numbers nor missing values."""
    return fits(row, count) and not any(text in MISSING or _is_number(text) for text in row)


def _without_last_empty(fields: list[str]) -> list[str]:
    fields = [field.strip() for field in fields]
    while fields and not fields[-1]:
        fields.pop()
    return fields


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
