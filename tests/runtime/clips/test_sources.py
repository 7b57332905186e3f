"""Clips from trajectory files, from arrays, and from files that are neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from magvit_runtime import InputError
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import ReadReport, RenderStyle, read_trajectories, render
from magvit_runtime.clips.variation import with_variations

STYLE = RenderStyle(height=32, width=40, frames=5)
CSV = "id,x,y,label\na,0,0,up\na,1,1,up\nb,0,0,\nb,nan,0,\nb,2,1,\nc,1,1,up\nd,0,1,up\nd,3,0,up\n"


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_trajectories_are_rendered_in_batches(tmp_path: Path, batch_size: int) -> None:
    path = tmp_path / "gestures.csv"
    path.write_text(CSV)
    report = ReadReport()
    batches = list(read_clips(path, STYLE, report, batch_size))
    assert [len(batch.ids) for batch in batches] == {1: [1, 1, 1], 2: [2, 1], 8: [3]}[batch_size]
    assert [name for batch in batches for name in batch.ids] == ["a", "b", "d"]
    assert [label for batch in batches for label in batch.labels] == ["up", None, "up"]
    frames = np.concatenate([batch.frames for batch in batches])
    assert frames.shape == (3, 5, 32, 40, 3)
    trajectories = list(read_trajectories(path, ReadReport()))
    np.testing.assert_array_equal(frames, render(trajectories, STYLE))
    assert {(problem.row, problem.problem) for problem in report.problems} == {
        (5, "not_finite"),
        (7, "too_few_points"),
    }


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_varied_copies_are_drawn_after_their_trajectory(tmp_path: Path, batch_size: int) -> None:
    path = tmp_path / "gestures.csv"
    path.write_text(CSV)
    batches = list(read_clips(path, STYLE, ReadReport(), batch_size, variations=1))
    assert [name for batch in batches for name in batch.ids] == ["a", "a~1", "b", "b~1", "d", "d~1"]
    frames = np.concatenate([batch.frames for batch in batches])
    trajectories = read_trajectories(path, ReadReport())
    np.testing.assert_array_equal(frames, render(list(with_variations(trajectories, 1)), STYLE))


@pytest.mark.parametrize("shape", [(5, 3, 8, 8, 3), (5, 8, 8, 3)], ids=["clips", "images"])
def test_an_array_is_cut_into_batches(tmp_path: Path, shape: tuple[int, ...]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    batches = list(read_clips(tmp_path / "frames.npy", STYLE, ReadReport(), 2))
    assert [batch.ids for batch in batches] == [("0", "1"), ("2", "3"), ("4",)]
    assert {label for batch in batches for label in batch.labels} == {None}
    np.testing.assert_array_equal(np.concatenate([batch.frames for batch in batches]), frames)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((1, 3, 8, 8, 3), np.float32), "float32 [1, 3, 8, 8, 3]"),
        (np.zeros((8, 8, 3), np.uint8), "uint8 [8, 8, 3]"),
        (np.zeros((0, 3, 8, 8, 3), np.uint8), "uint8 [0, 3, 8, 8, 3]"),
    ],
)
def test_an_array_of_something_else(tmp_path: Path, array: np.ndarray, found: str) -> None:
    path = tmp_path / "frames.npy"
    np.save(path, array)
    with pytest.raises(InputError) as error:
        read_clips(path, STYLE, ReadReport(), 1)
    assert str(error.value) == (
        f"{path} holds no clips: found {found}, expected uint8 [N, T, H, W, 3]"
    )


def objects(path: Path) -> None:
    np.save(path, np.array([{}], object))


def truncated(path: Path) -> None:
    np.save(path, np.zeros((4, 3, 8, 8, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:500])


def archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, frames=np.zeros((1, 3, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    "write",
    [
        objects,
        truncated,
        archive,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"hello"),
        lambda path: path.unlink(missing_ok=True),
    ],
    ids=["objects", "truncated", "archive", "empty", "text", "missing"],
)
def test_a_npy_file_that_is_none(tmp_path: Path, write) -> None:
    path = tmp_path / "frames.npy"
    write(path)
    with pytest.raises(InputError) as error:
        read_clips(path, STYLE, ReadReport(), 1)
    assert str(error.value).startswith(f"{path} is no .npy file: found ")
    assert "allow_pickle" not in str(error.value)


@pytest.mark.parametrize("name", ["clip.gif", "clips"])
def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(InputError) as error:
        read_clips(path, STYLE, ReadReport(), 1)
    assert str(error.value) == (
        f"{path} is of an unknown kind: "
        "expected .avi, .csv, .json, .jsonl, .m4v, .mkv, .mov, .mp4, .ndjson, .npy, .npz, "
        ".parquet, .tsv, .txt, .webm"
    )
