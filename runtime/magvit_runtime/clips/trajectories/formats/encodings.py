"""Which encoding a text file has: UTF-8, UTF-16 or UTF-32, else Windows-1252."""

from __future__ import annotations

import codecs
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem
from magvit_runtime.errors import TrajectoryError

CHUNK_BYTES = 1 << 18
# UTF-32's mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What Windows-1252 leaves undefined.
_UNDEFINED = re.compile(rb"[\x00\x81\x8d\x8f\x90\x9d]")


@dataclass(frozen=True)
class Undecodable:
    """The first byte that isn't text.

    Attributes:
        byte: Its value, in 0..255.
        line: Its line; the first is 1.
        place: Its place in the line; the first is 1.
    """

    byte: int
    line: int
    place: int


@dataclass(frozen=True)
class Encoding:
    """How bytes are turned to text.

    Attributes:
        name: Python's name of the encoding.
        not_utf8: The byte for which UTF-8 was ruled out, where the file has no byte order mark.
    """

    name: str
    not_utf8: Undecodable | None = None


def note_encoding(encoding: Encoding, report: ReadReport) -> None:
    """Reports that a file was read as Windows-1252."""
    if wrong := encoding.not_utf8:
        message = f"byte 0x{wrong.byte:02x} is no UTF-8; the file was read as Windows-1252"
        report.add(RowProblem(wrong.line, None, "encoding", message, "repaired"))


def newline_decoder(name: str) -> io.IncrementalNewlineDecoder:
    """A decoder that gives every line end, of Windows, Unix and the classic Mac, as one newline."""
    decoder = codecs.getincrementaldecoder(name)()
    return io.IncrementalNewlineDecoder(decoder, translate=True)


def find_encoding(path: Path, file: IO[bytes]) -> Encoding:
    """Reads the file once and says how all of it can be decoded.

    A byte order mark decides; without one, a NUL in every other of the first bytes means UTF-16.
    What is no UTF-8 is Windows-1252, which Excel writes in Western Europe and America, provided
    that every byte has a meaning there, and that no other place is UTF-8.

    Args:
        path: For messages.
        file: At any place; left at any.

    Raises:
        TrajectoryError: No encoding fits.
    """
    file.seek(0)
    start = file.read(1024)
    name = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if name is None:
        name = _without_mark(start)
    wrong = _first_undecodable(file, name)
    if wrong is None:
        return Encoding(name)
    if name == "utf-8" and _is_windows_1252(file):
        return Encoding("cp1252", wrong)
    wanted = "UTF-8" if name.startswith("utf-8") else name.upper()
    raise TrajectoryError(
        f"{path}, line {wrong.line}, isn't {wanted} text",
        found=f"byte 0x{wrong.byte:02x} at place {wrong.place}",
        mend="save the file as UTF-8",
    )


def _without_mark(start: bytes) -> str:
    """Tells UTF-16 by the NULs beside a header's letters."""
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if odd > len(start) // 4 and even == 0:
        return "utf-16-le"
    if even > len(start) // 4 and odd == 0:
        return "utf-16-be"
    return "utf-8"


def _first_undecodable(file: IO[bytes], name: str) -> Undecodable | None:
    # Its decoder doesn't count the mark's bytes.
    name = "utf-8" if name == "utf-8-sig" else name
    decoder = codecs.getincrementaldecoder(name)()
    file.seek(0)
    last = b""
    while True:
        # What the decoder keeps of the chunk before, it puts in front of this one.
        kept = len(decoder.getstate()[0])
        data = file.read(CHUNK_BYTES)
        try:
            decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            offset = file.tell() - len(data) - kept + error.start
            byte = (last[len(last) - kept :] + data)[error.start]
            return Undecodable(byte, *_line_and_place(file, name, offset))
        if not data:
            return None
        last = data


def _line_and_place(file: IO[bytes], name: str, offset: int) -> tuple[int, int]:
    decoder = newline_decoder(name)
    file.seek(0)
    line, place = 1, 1
    while offset > 0 and (data := file.read(min(offset, CHUNK_BYTES))):
        offset -= len(data)
        before, ended, rest = decoder.decode(data, final=offset == 0).rpartition("\n")
        line += before.count("\n") + len(ended)
        place = len(rest) + (1 if ended else place)
    return line, place


def _is_windows_1252(file: IO[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    file.seek(0)
    while data := file.read(CHUNK_BYTES):
        if _UNDEFINED.search(data) or not decoder.decode(data).isascii():
            return False
    return True
