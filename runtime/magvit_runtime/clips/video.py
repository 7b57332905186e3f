"""Reads video files as clips, through PyAV; torch has no part in it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.batches import ClipBatch
from magvit_runtime.clips.trajectories import RenderStyle
from magvit_runtime.errors import InputError
from magvit_runtime.files.names import as_text
from magvit_runtime.hardware.packages import missing_package


def video_batches(path: Path, style: RenderStyle, batch_size: int) -> Iterator[ClipBatch]:
    """Cuts a video into consecutive clips of `style.frames` frames; a shorter rest is left out.

    Frames are decoded to RGB as they are: lossy codecs and 4:2:0 colour have already changed
    pixels, and tokens with them, before they come here.

    Args:
        path: A video whose frames have the style's height and width.
        style: Height, width and frames of a clip.
        batch_size: Clips a batch.

    Raises:
        MissingPackageError: PyAV isn't installed.
        InputError: The file is no video, has another size, or is shorter than one clip.
    """
    frames = _rgb_frames(path, style)
    first = 0
    while clip := list(islice(frames, style.frames * batch_size)):
        count = len(clip) // style.frames
        if count == 0:
            break
        stacked = np.stack(clip[: count * style.frames])
        ids = tuple(f"{as_text(path.stem)}:{(first + i) * style.frames}" for i in range(count))
        shape = (count, style.frames, *stacked.shape[1:])
        yield ClipBatch(ids, (None,) * count, stacked.reshape(shape))
        first += count
    if first == 0:
        raise InputError(f"{path} is shorter than one clip", expected=f"{style.frames} frames")


def _rgb_frames(path: Path, style: RenderStyle) -> Iterator[NDArray[np.uint8]]:
    try:
        import av
    except ImportError as error:
        raise missing_package("av", "reading a video") from error
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if (frame.height, frame.width) != (style.height, style.width):
                    raise InputError(
                        f"{path} has frames of another size",
                        found=f"{frame.height}x{frame.width}",
                        expected=f"{style.height}x{style.width}",
                        mend="scale it first, or give --height and --width",
                    )
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{path} can't be decoded", found=str(error)) from error
