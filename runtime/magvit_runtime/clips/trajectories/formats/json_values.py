"""Reads the values of a JSON file one by one: of an array, or a value a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from magvit_runtime.clips.trajectories.formats.csv_lines import line_blocks
from magvit_runtime.clips.trajectories.formats.encodings import newline_decoder
from magvit_runtime.errors import TrajectoryError

CHUNK_BYTES = 1 << 17
# Longer lines and elements are refused: a bracket that isn't closed would load the whole file.
MAX_VALUE = 1 << 26
# What json raises; the second where thousands of brackets are open.
_BAD = (ValueError, RecursionError)
# Fractions stay text, so that none of their digits is lost.
_DECODER = json.JSONDecoder(parse_float=str)


class Value(NamedTuple):
    """One value of a file.

    Attributes:
        row: The line in a file of a value a line; else the place in the array. The first is 1.
        value: The value; a number with a fraction as its text.
        wrong: Why the line can't be read, if so.
    """

    row: int
    value: Any
    wrong: str | None = None


def json_values(path: Path, file: IO[bytes], encoding: str) -> Iterator[Value]:
    """Yields the elements of an array, the values of JSON lines, or a file's one value.

    A line that is no JSON costs only itself.

    Raises:
        TrajectoryError: The file holds no JSON.
    """
    lines = chain.from_iterable(line_blocks(file, encoding, MAX_VALUE))
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("["):
        return _elements(path, file, encoding)
    if first and _line(1, first).wrong is None:
        return _lines(file, encoding)
    return _whole(path, file, encoding)


def _lines(file: IO[bytes], encoding: str) -> Iterator[Value]:
    lines = chain.from_iterable(line_blocks(file, encoding, MAX_VALUE))
    return (_line(row, line) for row, line in enumerate(lines, start=1) if line.strip())


def _line(row: int, line: str) -> Value:
    try:
        return Value(row, _DECODER.decode(line))
    except _BAD as error:
        return Value(row, None, f"it is no JSON: {error}")


def _whole(path: Path, file: IO[bytes], encoding: str) -> Iterator[Value]:
    file.seek(0)
    text = newline_decoder(encoding).decode(file.read(), final=True)
    if not text.strip():
        raise TrajectoryError(f"{path} is empty")
    try:
        yield Value(1, _DECODER.decode(text))
    except _BAD as error:
        raise _no_json(path, error) from error


def _elements(path: Path, file: IO[bytes], encoding: str) -> Iterator[Value]:
    file.seek(0)
    decoder = newline_decoder(encoding)
    text, at, is_last = "", 0, False
    row = 0
    while True:
        try:
            value, at = _element(text, at, is_first=row == 0)
        except _BAD as error:
            if is_last or len(text) - at > MAX_VALUE:
                raise _no_json(path, f"element {row + 1}: {error}") from error
            # As much again as there is, so that a long element isn't read over and over.
            data = file.read(max(CHUNK_BYTES, len(text) - at))
            text, at = text[at:] + decoder.decode(data, final=not data), 0
            is_last = not data
        else:
            if value is _END:
                break
            row += 1
            yield Value(row, value)
    rest = text[at:] + decoder.decode(file.read(CHUNK_BYTES))
    if rest.strip():
        raise _no_json(path, f"more follows the array of {row} elements")


_END = object()
_BLANKS = re.compile(r"[ \t\n\r]*")


def _element(text: str, at: int, *, is_first: bool) -> tuple[Any, int]:
    """Reads the next element of an array, or `_END`, and says where it ends.

    Raises:
        ValueError: The text is no JSON, or ends before the element is certain to.
    """
    at = _after_blanks(text, at)
    if is_first:
        at = _after_blanks(text, at + 1)
    if text[at : at + 1] == "]":
        return _END, at + 1
    if not is_first:
        if text[at : at + 1] != ",":
            raise ValueError(f"expected a comma or ], found {text[at : at + 20]!r}")
        at = _after_blanks(text, at + 1)
    value, end = _DECODER.raw_decode(text, at)
    if end == len(text):
        raise ValueError("the array isn't closed")
    return value, end


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _no_json(path: Path, wrong: object) -> TrajectoryError:
    return TrajectoryError(
        f"{path} can't be read as JSON",
        found=wrong,
        mend="write or copy the file again: it is damaged, cut short or in another format",
    )
