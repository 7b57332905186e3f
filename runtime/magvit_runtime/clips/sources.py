"""Clips from what users have: trajectory files, arrays of frames, videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.batches import ClipBatch
from magvit_runtime.clips.trajectories import (
    ONE_CAMERA,
    TRAJECTORY_SUFFIXES,
    Cameras,
    Positions,
    ReadReport,
    RenderStyle,
    StyleOptions,
    Trajectory,
    columns_not_taken,
    is_trajectory_file,
    note_unseen,
    read_trajectories,
    render_batches,
)
from magvit_runtime.clips.variation import own_rows, with_variations
from magvit_runtime.clips.video import DROP_TAIL, Cutting, video_batches
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.errors import InputError
from magvit_runtime.tracing import Facts, each

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})


def read_clips(
    path: Path,
    style: StyleOptions,
    report: ReadReport,
    batch_size: int,
    *,
    cutting: Cutting = DROP_TAIL,
    video_report: VideoReport | None = None,
    columns: Sequence[str] = (),
    positions: Positions = "auto",
    cameras: Cameras = ONE_CAMERA,
    variations: int = 0,
) -> Iterator[ClipBatch]:
    """Streams clips from a file, at most `batch_size` in memory.

    Args:
        path: Trajectories (a text table, JSON, Parquet or npz), which are rendered; uint8 frames
            [N, T, H, W, 3] (.npy); or a video, which is cut into consecutive clips.
        style: How trajectories are rendered. A video must have its height and width, and is cut
            every `frames` frames; nothing is drawn on it, so no other option matters to it.
        report: What was wrong with trajectories, filled while they are read.
        batch_size: Clips a batch.
        cutting: What becomes of a video's last frames, where they fill no clip.
        video_report: What was met in a video, filled while it is read.
        columns: The names of a text table's columns, where it has no header.
        positions: What the columns of trajectories are taken for, as of `read_trajectories`.
        cameras: See trajectories in space. Where there are several, each trajectory gives as many
            clips, after each other, with ids as `view_id` gives them.
        variations: Varied copies of each trajectory, drawn after it.

    Raises:
        InputError: The file can't be read, or holds no clip; or there is a camera and nothing in
            space for it.
    """
    suffix = path.suffix.lower()
    if columns and not is_trajectory_file(path):
        raise columns_not_taken(path)
    if suffix == ".npy":
        return _array_batches(_open_array(path), batch_size)
    if suffix in VIDEO_SUFFIXES:
        met = VideoReport() if video_report is None else video_report
        clips = video_batches(path, style, batch_size, cutting, met)
        return each("decode_video", clips, lambda batch: _facts(batch.frames))
    if is_trajectory_file(path):
        trajectories = read_trajectories(path, report, columns=columns, positions=positions)
        return drawn_batches(trajectories, style.checked(), batch_size, cameras, report, variations)
    expected = sorted(VIDEO_SUFFIXES.union(TRAJECTORY_SUFFIXES, {".npy"}))
    raise InputError(f"{path} is of an unknown kind", expected=", ".join(expected))


def drawn_batches(
    trajectories: Iterator[Trajectory],
    style: RenderStyle,
    batch_size: int,
    cameras: Cameras,
    report: ReadReport,
    variations: int = 0,
) -> Iterator[ClipBatch]:
    """Draws a stream of trajectories, and reports those of which a camera sees nothing.

    Args:
        trajectories: Read as far as each batch needs.
        style: Size, length and look of the clips.
        batch_size: Clips a batch.
        cameras: See trajectories in space.
        report: Grows by what no camera sees.
        variations: Varied copies of each trajectory, drawn after it; nothing is reported of them.
    """
    every = with_variations(trajectories, variations)
    done = 0
    drawn = render_batches(every, style, batch_size, cameras)
    for batch, frames in each("render", drawn, lambda one: _facts(one[1])):
        for row in own_rows(done, len(batch), cameras.views, variations):
            one = slice(row, row + 1)
            note_unseen(batch[one], frames[one], style, cameras, report)
        done += len(batch)
        yield ClipBatch(
            tuple(trajectory.id for trajectory in batch),
            tuple(trajectory.label for trajectory in batch),
            frames,
        )


def _facts(frames: NDArray[np.uint8]) -> Facts:
    """What a trace says of a batch."""
    return {"clips": len(frames), "shape": frames.shape[1:]}


def _open_array(path: Path) -> NDArray[np.uint8]:
    try:
        frames: NDArray[np.uint8] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no .npy file", found=str(error)) from error
    if frames.dtype != np.uint8 or frames.ndim not in (4, 5) or 0 in frames.shape:
        raise InputError(
            f"{path} holds no clips",
            found=f"{frames.dtype} {list(frames.shape)}",
            expected="uint8 [N, T, H, W, 3]",
        )
    return frames


def _array_batches(frames: NDArray[np.uint8], batch_size: int) -> Iterator[ClipBatch]:
    for first in range(0, len(frames), batch_size):
        batch = np.asarray(frames[first : first + batch_size])
        ids = tuple(str(first + i) for i in range(len(batch)))
        yield ClipBatch(ids, (None,) * len(batch), batch)
