"""Cuts videos into clips of consecutive frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.batches import ClipBatch, VideoPlace
from magvit_runtime.clips.trajectories.style import StyleOptions
from magvit_runtime.clips.video_frames import Video, VideoReport, open_video
from magvit_runtime.errors import InputError
from magvit_runtime.files.names import as_text

Tail = Literal["drop", "pad", "short"]
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Cutting:
    """How a video is cut into clips.

    Attributes:
        tail: What becomes of the last frames that fill no clip. "drop" leaves them out, and
            reports it. "pad" repeats the last frame until the clip is full. "short" makes a shorter
            clip of them.
        time_stride: Frames that a token covers. The clip of "short" has a multiple of it and one
            more, as a decoder gives them back; the last frame is repeated for what is missing.

    Raises:
        InputError: There is no such rule, or the stride isn't positive.
    """

    tail: Tail = "drop"
    time_stride: int = 1

    def __post_init__(self) -> None:
        if self.tail not in get_args(Tail):
            raise InputError(
                "no rule for the tail has this name",
                found=self.tail,
                expected=", ".join(get_args(Tail)),
            )
        if self.time_stride < 1:
            raise InputError("time_stride must be positive", found=self.time_stride)

    def frames_of_tail(self, rest: int, full: int) -> int:
        """Frames of the last clip, of `rest` frames where a whole one has `full`; 0 for none."""
        if self.tail == "drop":
            return 0
        steps = -(-(rest - 1) // self.time_stride)
        return full if self.tail == "pad" else min(full, steps * self.time_stride + 1)


DROP_TAIL = Cutting()


def video_batches(
    path: Path, size: StyleOptions, batch_size: int, cutting: Cutting, report: VideoReport
) -> Iterator[ClipBatch]:
    """Cuts a video into consecutive clips of `size.frames` frames, each named after its first.

    Frames are decoded to RGB as they are: lossy codecs and 4:2:0 colour have already changed
    pixels, and tokens with them, before they come here. `Video.frames` says what is done to them.

    Args:
        path: A video whose frames have this height and width, once they are turned upright.
        size: Height, width and frames of a clip.
        batch_size: Clips a batch. A shorter clip comes in a batch of its own.
        cutting: What becomes of the last frames.
        report: Filled while the video is read.

    Raises:
        MissingPackageError: PyAV isn't installed.
        InputError: The file is no video, has another size, is damaged, or is shorter than one clip
            where its tail is dropped.
    """
    with open_video(path, report) as video:
        batch: list[_Clip] = []
        for clip in _clips(video, size, cutting, report):
            if batch and len(clip.frames) != len(batch[0].frames):
                yield _batch(video, batch)
                batch = []
            batch.append(clip)
            if len(batch) == batch_size:
                yield _batch(video, batch)
                batch = []
        if batch:
            yield _batch(video, batch)


@dataclass(frozen=True)
class _Clip:
    """One clip: uint8 [T, H, W, 3], where it begins, and how many frames are the video's own."""

    frames: Frames
    first: int
    own_frames: int


def _clips(
    video: Video, size: StyleOptions, cutting: Cutting, report: VideoReport
) -> Iterator[_Clip]:
    frames = _of_size(video, size, report)
    first = 0
    while clip := list(islice(frames, size.frames)):
        rest = len(clip)
        if rest < size.frames:
            length = cutting.frames_of_tail(rest, size.frames)
            if length == 0:
                report.left_out = rest
                break
            report.repeated = length - rest
            clip += clip[-1:] * report.repeated
        yield _Clip(np.stack(clip), first, rest)
        first += rest
    if report.frames == 0:
        raise InputError(f"{video.path} holds no frames")
    if report.frames == report.left_out:
        raise InputError(
            f"{video.path} is shorter than one clip",
            found=f"{report.frames} frames",
            expected=f"{size.frames} frames",
            mend=f"pass --tail pad or --tail short, or --frames {report.frames}",
        )


def _of_size(video: Video, size: StyleOptions, report: VideoReport) -> Iterator[Frames]:
    for frame in video.frames(report):
        if frame.shape[:2] != (size.height, size.width):
            raise InputError(
                f"{video.path} has frames of another size",
                found="{}x{}".format(*frame.shape),
                expected=f"{size.height}x{size.width}",
                mend="scale it first, or give --height and --width",
            )
        yield frame


def _batch(video: Video, clips: list[_Clip]) -> ClipBatch:
    """Clips of one length."""
    frames = np.stack([clip.frames for clip in clips])
    height, width = frames.shape[2:4]
    source = as_text(video.path.absolute())
    rate = "" if video.rate is None else str(video.rate)
    places = tuple(
        VideoPlace(source, clip.first, clip.own_frames, height, width, rate) for clip in clips
    )
    ids = tuple(f"{as_text(video.path.stem)}:{clip.first}" for clip in clips)
    return ClipBatch(ids, (None,) * len(clips), frames, places)
