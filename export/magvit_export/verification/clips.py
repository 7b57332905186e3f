"""Further clips for `magvit verify`: real movements, and the user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from magvit_export.libras import load_libras
from magvit_runtime.clips.samples import SMALLEST_DRAWING, drawing_style
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import ReadReport, Trajectory, render
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.verification.references import Clips

MOVEMENTS = 3
CLIPS_AT_ONCE = 8


def movement_clips(shape: tuple[int, ...], few: bool = False) -> Iterator[Clips]:
    """Three hand movements of the Libras data, each of another class; none if clips are too small.

    Args:
        shape: Shape of a clip, [T, H, W, 3] or [H, W, 3].
        few: One of them is enough.
    """
    if min(shape[-3:-1]) < SMALLEST_DRAWING:
        return
    data = load_libras().spread(1 if few else MOVEMENTS)
    time = np.arange(data.xy.shape[1], dtype=np.float64)
    movements = [
        Trajectory(f"Libras {label}", xy.astype(np.float64), time)
        for xy, label in zip(data.xy, data.labels, strict=True)
    ]
    clips = render(movements, drawing_style(shape))
    yield tuple(movement.id for movement in movements), clips.reshape(-1, *shape)


def file_clips(
    path: Path, shape: tuple[int, ...], report: ReadReport, video: VideoReport
) -> Iterator[Clips]:
    """The user's clips, trajectories drawn at the size that the graph takes.

    Args:
        path: A file that `read_clips` reads.
        shape: Shape of a clip.
        report: Filled on the first pass over a file, and left alone on later ones.
        video: The same of a video.

    Raises:
        InputError: The file can't be read, or holds no clip.
    """
    style = drawing_style(shape)
    # Clips are read once for the reference and once for each encoder; problems count once.
    first_pass = ReadReport() if report.counts else report
    first_video = VideoReport() if video.frames else video
    for batch in read_clips(path, style, first_pass, CLIPS_AT_ONCE, video_report=first_video):
        is_image = len(shape) == 3 and batch.frames.ndim == 5
        yield batch.ids, batch.frames[:, 0] if is_image else batch.frames
