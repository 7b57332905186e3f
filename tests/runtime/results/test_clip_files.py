"""Clips as pictures, arrays and videos: what is written reads back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime import InputError
from magvit_runtime.results.clip_files import clip_writer

PIL = pytest.importorskip("PIL.Image", reason="PNG files need Pillow")
av = pytest.importorskip("av", reason="video files need PyAV")


def clips(count: int, *sizes: int) -> NDArray[np.uint8]:
    shape = (count, *(sizes or (3, 16, 24)), 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, frames: NDArray[np.uint8], names: tuple[str, ...] = ()) -> None:
    """One clip after another."""
    names = names or tuple(f"clip {i}" for i in range(len(frames)))
    with clip_writer(path, len(frames), 25) as writer:
        for i, name in enumerate(names):
            writer.write((name,), frames[i : i + 1])


@pytest.mark.parametrize("sizes", [(3, 16, 24), (16, 24)])
def test_arrays_read_back(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    frames = clips(3, *sizes)
    for name in ("clips.npy", "clips.npz"):
        write(tmp_path / name, frames)
    np.testing.assert_array_equal(np.load(tmp_path / "clips.npy"), frames)
    with np.load(tmp_path / "clips.npz") as archive:
        np.testing.assert_array_equal(archive["frames"], frames)
        assert archive["id"].tolist() == ["clip 0", "clip 1", "clip 2"]


def test_clips_become_folders_of_frames(tmp_path: Path) -> None:
    frames = clips(2)
    write(tmp_path / "out", frames)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip_0", "clip_1"]
    for i in range(2):
        pictures = sorted((tmp_path / "out" / f"clip_{i}").iterdir())
        assert [path.name for path in pictures] == [f"frame_000{t}.png" for t in range(3)]
        read = np.stack([np.asarray(PIL.open(path)) for path in pictures])
        np.testing.assert_array_equal(read, frames[i])


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("a", "b"), {"a.png", "b.png"}),
        (("a", "a"), {"a.png", "a_2.png"}),
        (("a", "A"), {"a.png", "A_2.png"}),
        (("../../up", "/root"), {"_.._up.png", "_root.png"}),
        (("", "..."), {"clip.png", "clip_2.png"}),
        (("walk:0", "x" * 300), {"walk_0.png", "x" * 100 + ".png"}),
    ],
)
def test_images_are_named_after_clips_wherever_they_lie(
    tmp_path: Path, names: tuple[str, ...], files: set[str]
) -> None:
    write(tmp_path / "out", clips(2, 16, 24), names)
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def read_video(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("sizes", [(3, 16, 24), (2, 15, 23)])
def test_matroska_keeps_every_pixel(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    frames = clips(2, *sizes)
    write(tmp_path / "out.mkv", frames)
    np.testing.assert_array_equal(read_video(tmp_path / "out.mkv"), np.concatenate(frames))


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".avi", ".webm"])
def test_other_videos_have_every_frame_at_its_rate(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    ramp = np.linspace(40, 200, 32).astype(np.uint8)
    frames = np.broadcast_to(ramp[:, None], (2, 5, 32, 32, 3)).copy()
    with clip_writer(path, 2, 12.5) as writer:
        writer.write(("a", "b"), frames)
    read = read_video(path)
    assert read.shape == (10, 32, 32, 3)
    assert np.abs(read.astype(int) - frames[0, 0]).mean() < 8
    with av.open(str(path)) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(12.5)


def test_odd_sizes_of_a_video_that_takes_even_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"even heights and widths: found 15x24.*\.mkv"):
        write(tmp_path / "out.mp4", clips(1, 2, 15, 24))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.npy", "out.npz", "out.mkv", "out"])
def test_an_error_leaves_nothing(tmp_path: Path, name: str) -> None:
    def write_half() -> None:
        with clip_writer(tmp_path / name, 2, 25) as writer:
            writer.write(("one",), clips(1))
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert not any(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is there already.*choose another -o"):
        write(tmp_path, clips(1))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_of_an_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out\.gif is of an unknown kind: expected .avi, "):
        write(tmp_path / "out.gif", clips(1))


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none(tmp_path: Path, rate: float) -> None:
    with pytest.raises(InputError, match="frame rate must be positive"):
        clip_writer(tmp_path / "out.mkv", 1, rate).__enter__()
