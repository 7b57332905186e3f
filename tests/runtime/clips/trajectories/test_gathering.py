"""Rows of an id are gathered over the whole file, in little memory."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from magvit_runtime.clips.trajectories import ReadReport, Trajectory, gathering, read_trajectories
from magvit_runtime.errors import TrajectoryError


def read(path: Path) -> tuple[list[Trajectory], ReadReport]:
    report = ReadReport()
    return list(read_trajectories(path, report)), report


def test_rows_by_frame_are_gathered_in_the_order_of_ids(write_csv: Callable[[str], Path]) -> None:
    people = {"c": range(5), "a": range(2, 9), "b": range(4, 6)}
    rows = [
        f"{frame},{name},{frame + len(name)},{-frame},{name.upper()}\n"
        for frame in range(10)
        for name, seen in people.items()
        if frame in seen
    ]
    trajectories, report = read(write_csv("frame,id,x,y,label\n" + "".join(rows)))
    assert not report.problems
    assert [(item.id, item.label, item.t.tolist()) for item in trajectories] == [
        (name, name.upper(), list(seen)) for name, seen in people.items()
    ]
    assert trajectories[1].xy.tolist() == [[frame + 1, -frame] for frame in people["a"]]
    assert [item.first_row for item in trajectories] == [2, 5, 10]


def test_a_piece_is_never_taken_for_the_whole(write_csv: Callable[[str], Path]) -> None:
    """Two ids whose first rows stand together, and whose others come later."""
    (a, b), report = read(write_csv("id,x,y\na,0,0\na,1,1\nb,0,0\nb,1,1\na,2,2\nb,2,2\nb,3,3\n"))
    assert (a.t.tolist(), b.t.tolist()) == ([0, 1, 2], [0, 1, 2, 3])
    assert not report.problems


def test_bad_rows_of_a_mixed_file_leave_their_gaps(write_csv: Callable[[str], Path]) -> None:
    (a, b), report = read(
        write_csv("id,x,y\na,0,0\nb,0,0\na,?,1\nb,1,1\n,9,9\na,2,2\nb,nan,2\nb,3,3\n")
    )
    assert (a.t.tolist(), b.t.tolist()) == ([0, 2], [0, 1, 3])
    assert [(found.row, found.problem) for found in report.problems] == [
        (4, "not_a_number"),
        (6, "missing_id"),
        (8, "not_finite"),
    ]


@pytest.mark.parametrize("at_once", [1, 7, 100, 1 << 18])
def test_any_number_of_parts_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(gathering, "POINTS_AT_ONCE", at_once)
    random = np.random.default_rng(at_once)
    ids = np.sort(random.integers(0, 40, 600))
    order = random.permutation(600)
    t = np.arange(600)
    path = tmp_path / "gestures.npz"
    label = np.char.add("k", (ids % 3).astype(str))
    np.savez(
        path, id=ids[order], x=ids[order] * t[order], y=t[order], t=t[order], label=label[order]
    )
    trajectories, report = read(path)
    assert [item.id for item in trajectories] == list(dict.fromkeys(map(str, ids[order])))
    assert set(report.counts) == {("repaired", "unsorted_time")}
    for item in trajectories:
        expected = t[ids == int(item.id)]
        assert item.t.tolist() == expected.tolist()
        assert item.xy.tolist() == [[int(item.id) * k, k] for k in expected]
        assert item.label == f"k{int(item.id) % 3}"


def test_memory_stays_small_for_a_large_mixed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "POINTS_AT_ONCE", 1 << 13)
    path = tmp_path / "gestures.csv"
    with path.open("w") as file:
        file.write("t,id,x,y\n")
        for frame in range(100):
            file.writelines(f"{frame},{number},{frame},{number}\n" for number in range(2000))
    tracemalloc.start()
    count = sum(len(item.t) for item in read_trajectories(path, ReadReport()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 9e6  # The points alone are 9.6e6 bytes.


def test_a_full_disk_is_named(
    write_csv: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tempfile.TemporaryFile

    def full() -> object:
        real().close()
        return open("/dev/full", "wb", buffering=0)  # noqa: PTH123

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    path = write_csv("id,x,y\na,0,0\nb,0,0\na,1,1\nb,1,1\n")
    with pytest.raises(
        TrajectoryError, match=r"gestures.csv mixes rows .* No space left on device in /.* TMPDIR"
    ):
        read(path)
