"""Text in the encodings that people's programs write."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
from magvit_runtime.errors import TrajectoryError

TEXT = "id,x,y,label\nÜ–1,0,0,après\nÜ–1,1,1,après\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    ],
    ids=[
        "utf-8",
        "utf-8 with mark",
        "utf-16",
        "utf-16-be",
        "utf-16-le, no mark",
        "utf-16-be, no mark",
        "utf-32",
        "utf-32-be",
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "mac"])
def test_encodings_that_tell_themselves(tmp_path: Path, content: bytes, line_end: str) -> None:
    path = tmp_path / "gestures.csv"
    width = next((size for size in (4, 2) if content.count(0) >= (size - 1) * len(TEXT) - 9), 1)
    assert len(content) % width == 0
    for order in ("little", "big"):
        newline = ord("\n").to_bytes(width, order)  # type: ignore[arg-type]
        if newline in content:
            ends = b"".join(ord(sign).to_bytes(width, order) for sign in line_end)  # type: ignore[arg-type]
            path.write_bytes(content.replace(newline, ends))
            break
    report = ReadReport()
    (trajectory,) = read_trajectories(path, report)
    assert (trajectory.id, trajectory.label, len(trajectory.t)) == ("Ü–1", "après", 2)
    assert not report.problems


@pytest.mark.parametrize("rows_before", [0, 40_000])
def test_windows_1252_is_read_and_reported(tmp_path: Path, rows_before: int) -> None:
    path = tmp_path / "gestures.csv"
    rows = "".join(f"a,{k},{k},u\n" for k in range(rows_before))
    path.write_bytes(f"id,x,y,label\n{rows}é–1,0,0,naïve\né–1,1,1,naïve\n".encode("cp1252"))
    report = ReadReport()
    *_, trajectory = read_trajectories(path, report)
    assert (trajectory.id, trajectory.label) == ("é–1", "naïve")
    (found,) = report.problems
    assert (found.row, found.problem, found.action) == (rows_before + 2, "encoding", "repaired")
    assert "byte 0xe9 is no UTF-8; the file was read as Windows-1252" in found.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,x,y\na,0,0\n\x81,1,1\n", "line 3, isn't UTF-8 text: found byte 0x81 at place 1"),
        (b"id,x,y\r\xc3\xa9,0,0\r\nab\xe9,1,1", "line 3, .* byte 0xe9 at place 3"),
        (b"id,x,y\na,0,0\n\x00\xff,1,1\n", "line 3, isn't UTF-8 text"),
        (b"id,x,y\na,0,0\na,1,\xc3", None),
        (codecs.BOM_UTF8 + b"id,x,y\n\xe9,1,1\n", "line 2, isn't UTF-8 text"),
        (codecs.BOM_UTF16_LE + "id,x,y\na,0,0".encode("utf-16-le")[:-1], "isn't UTF-16 text"),
        (b"a" * 300_000 + b"\n" * 7 + b"\x8d", "line 8, .* byte 0x8d at place 1"),
    ],
    ids=["no letter", "beside UTF-8", "NUL", "letter", "after a mark", "half a unit", "far down"],
)
def test_what_no_encoding_fits_is_refused_by_place(
    tmp_path: Path, content: bytes, words: str | None
) -> None:
    path = tmp_path / "gestures.csv"
    path.write_bytes(content)
    with pytest.raises(TrajectoryError, match=words or "row 3: y is 'Ã'"):
        list(read_trajectories(path, ReadReport()))
