"""Finds the delimiter and the header of a text table."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from magvit_runtime.clips.trajectories.columns import REQUIRED, find_columns
from magvit_runtime.clips.trajectories.formats.csv_lines import Layout, first_record, line_blocks
from magvit_runtime.clips.trajectories.names import column_name
from magvit_runtime.errors import TrajectoryError

DELIMITERS = (",", ";", "\t", "|")
# What Excel reads, and leaves out, before the header.
_SEPARATOR_LINE = re.compile(r'\s*"?sep=(.)"?[\s,;|]*', re.IGNORECASE)
_EXAMPLE = "a line such as id,x,y,t,label"


@dataclass(frozen=True)
class Header:
    """The first line of a table that isn't blank.

    Attributes:
        layout: What it says of the lines that follow.
        names: The names of its columns, without empty ones at its end.
        columns: Place of each of our columns.
    """

    layout: Layout
    names: list[str]
    columns: dict[str, int]


def find_header(path: Path, file: IO[bytes], encoding: str) -> Header:
    """Finds the header, with the delimiter that makes id, x and y of it.

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

    best: list[str] = []
    wrong: csv.Error | None = None
    for delimiter in delimiters:
        try:
            fields, used = first_record(lines, delimiter)
        except csv.Error as error:
            wrong = wrong or error
            continue
        names = [name.strip() for name in fields]
        while names and not names[-1]:
            names.pop()
        if set(map(column_name, names)).issuperset(REQUIRED):
            layout = Layout(delimiter, len(names), skipped + used)
            return Header(layout, names, find_columns(path, names))
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
            mend="add a first line that names the columns, such as id,x,y or t,id,x,y",
        )
    find_columns(path, best)  # It says what is missing.
    raise AssertionError("the header has what it was refused for")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
