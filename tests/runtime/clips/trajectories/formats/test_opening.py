"""Compressed files, and pipes."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pytest

from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
from magvit_runtime.errors import TrajectoryError

# Mixed, so that all of it is read twice.
TEXT = "id,x,y\n" + "".join(f"{k % 7},{k},{k * k}\n" for k in range(7000))


@pytest.mark.parametrize("name", ["g.csv.gz", "g.CSV.GZ", "g.csv", "g.txt.gz"])
def test_gzip_is_known_by_its_contents(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(TEXT.encode()))
    read = list(read_trajectories(tmp_path / name, ReadReport()))
    assert [len(item.t) for item in read] == [1000] * 7
    assert read[3].xy[1].tolist() == [10, 100]


@pytest.mark.parametrize("kept", [12, 3000, -5, -1])
def test_gzip_that_is_cut_short_gives_no_part_of_it(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "g.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode())[:kept])
    with pytest.raises(TrajectoryError, match=r"g.csv.gz can't be decompressed"):
        read_trajectories(path, ReadReport())


def test_gzip_with_wrong_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.csv.gz"
    content = bytearray(gzip.compress(TEXT.encode()))
    content[2000:2010] = b"\0" * 10
    path.write_bytes(content)
    with pytest.raises(TrajectoryError):
        read_trajectories(path, ReadReport())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_read_although_it_can_be_read_only_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(TEXT,))
    writer.start()
    read = list(read_trajectories(path, ReadReport()))
    writer.join()
    assert [len(item.t) for item in read] == [1000] * 7
