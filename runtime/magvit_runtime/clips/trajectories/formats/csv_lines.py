"""Takes text apart into lines, and lines into fields."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, Any, NamedTuple

from magvit_runtime.clips.trajectories.formats.encodings import newline_decoder

# Large enough for loops in C, small enough to stay in a few MB as Python's texts.
BLOCK_BYTES = 1 << 17
MAX_LINE = 65536
# A delimiter that stands for runs of blanks and tabs.
BLANKS = " "
_BLANKS = re.compile(r'("(?:[^"]|"")*")|[ \t]+')
# What the csv module says where a quote is open at the end.
_OPEN_QUOTE = "unexpected end of data"
# Lines that a quoted field may go over. What is beyond is no note, but a quote that isn't closed.
MAX_RECORD_LINES = 100


class Records(NamedTuple):
    """Some consecutive lines as fields.

    Attributes:
        numbers: Line of each record, where it begins; the file's first is 1.
        rows: Fields of each record; of a blank line, none or an empty one.
        bad: Line and what is wrong of those that can't be taken apart.
    """

    numbers: Sequence[int]
    rows: list[list[str]]
    bad: list[tuple[int, str]]


def line_blocks(file: IO[bytes], encoding: str, max_line: int = MAX_LINE) -> Iterator[list[str]]:
    """Yields the lines of a file, block by block, of overlong ones the first max_line + 1 signs."""
    decoder = newline_decoder(encoding)
    file.seek(0)
    rest = ""
    while data := file.read(BLOCK_BYTES):
        lines = (rest + decoder.decode(data)).split("\n")
        rest = lines.pop()[: max_line + 1]
        if lines:
            yield lines
    last = rest + decoder.decode(b"", final=True)
    if last:
        yield last.split("\n")


class Layout(NamedTuple):
    """How the lines of a table are laid out.

    Attributes:
        delimiter: What stands between fields; `BLANKS` for any number of blanks.
        width: Fields of a record.
        header_end: Lines up to the end of the header.
    """

    delimiter: str
    width: int
    header_end: int


def records(
    blocks: Iterable[list[str]], layout: Layout, fields: int | None = None
) -> Iterator[Records]:
    """Takes the lines after the header apart.

    A quoted field may hold line breaks. A quote that isn't closed within `MAX_RECORD_LINES`, or so
    that the record doesn't have the layout's width, costs its own line and no other.

    Args:
        blocks: Lines, as `line_blocks` gives them; the first block holds the header.
        layout: Of the table.
        fields: How many fields of a record are needed. The last may hold all others, which saves
            time, in lines without quotes.
    """
    first = 1
    rest: list[str] = []
    # An empty block says that nothing follows.
    for block in chain(blocks, ([],)):
        lines = rest + block
        if first <= layout.header_end:
            lines, first = lines[layout.header_end :], layout.header_end + 1
        found, used = _take_apart(lines, first, layout, fields or -1, is_last=not block)
        yield found
        first += used
        rest = lines[used:]


def first_record(lines: list[str], delimiter: str) -> tuple[list[str], int]:
    """Gives the fields of the first record, and the number of lines that it takes.

    Raises:
        csv.Error: It can't be taken apart.
    """
    if len(lines[0]) > MAX_LINE:
        raise csv.Error(f"the line is longer than {MAX_LINE} signs")
    lines, delimiter = _without_blanks(lines[:MAX_RECORD_LINES], delimiter)
    reader = _reader((line + "\n" for line in lines), delimiter)
    return next(reader), reader.line_num


def fits(fields: list[str], width: int) -> bool:
    """Whether a record has `width` fields; empty ones too many at its end don't count."""
    return len(fields) >= width and not any(map(str.strip, fields[width:]))


def _take_apart(
    lines: list[str], first: int, layout: Layout, splits: int, *, is_last: bool
) -> tuple[Records, int]:
    """Gives the records of lines, and the number of lines that they took."""
    numbers = range(first, first + len(lines))
    if max(map(len, lines), default=0) <= MAX_LINE:
        even, delimiter = _without_blanks(lines, layout.delimiter)
        if not any('"' in line for line in even):
            return Records(numbers, [line.split(delimiter, splits) for line in even], []), len(even)
        try:
            rows = list(_reader(even, delimiter))
        except csv.Error:
            rows = []
        if len(rows) == len(lines):
            return Records(numbers, rows, []), len(lines)
    return _one_by_one(lines, first, layout, is_last=is_last)


def _one_by_one(
    lines: list[str], first: int, layout: Layout, *, is_last: bool
) -> tuple[Records, int]:
    numbers: list[int] = []
    rows: list[list[str]] = []
    bad: list[tuple[int, str]] = []
    at = 0
    while at < len(lines):
        try:
            fields, used = first_record(lines[at : at + MAX_RECORD_LINES], layout.delimiter)
            if used > 1 and not fits(fields, layout.width):
                raise csv.Error(_OPEN_QUOTE)
        except csv.Error as error:
            missing = at + MAX_RECORD_LINES - len(lines)
            if str(error) == _OPEN_QUOTE and missing > 0 and not is_last:
                break  # The quote may be closed in the next block.
            bad.append((first + at, str(error)))
            at += 1
        else:
            numbers.append(first + at)
            rows.append(fields)
            at += used
    return Records(numbers, rows, bad), at


def _without_blanks(lines: list[str], delimiter: str) -> tuple[list[str], str]:
    """Lines and a delimiter of one sign: runs of blanks become tabs, unless they are quoted."""
    if delimiter != BLANKS:
        return lines, delimiter
    return [_BLANKS.sub(lambda run: run[1] or "\t", line.strip()) for line in lines], "\t"


def _reader(lines: Iterable[str], delimiter: str) -> Any:
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
