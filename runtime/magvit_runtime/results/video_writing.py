"""Writes frames as a video file, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.hardware.packages import missing_package

# Container, codec, pixel format and options by suffix. Matroska is for those who want every pixel
# as it was decoded: FFV1 in RGB loses nothing. The others are for looking at, in any player.
_H264 = ("libx264", "yuv420p", {"crf": "18"})
_FORMATS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    ".mkv": ("matroska", "ffv1", "bgr0", {}),
    ".mp4": ("mp4", *_H264),
    ".m4v": ("mp4", *_H264),
    ".mov": ("mov", *_H264),
    ".avi": ("avi", "mpeg4", "yuv420p", {"qscale": "2"}),
    ".webm": ("webm", "libvpx-vp9", "yuv420p", {"crf": "20", "b": "0"}),
}
_RATE_DENOMINATOR = 1001  # Of NTSC's rates, the largest that occur.


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[VideoWriter]:
    """Opens a video file for writing; it appears when the block ends without an error.

    Args:
        path: .mkv (FFV1, without any loss), .mp4, .m4v, .mov, .avi or .webm.
        rate: Frames a second.

    Raises:
        MissingPackageError: PyAV isn't installed.
        InputError: The rate isn't positive, or the frames can't be encoded or written.
    """
    try:
        import av
    except ImportError as error:
        raise missing_package("av", "writing a video") from error
    if not 0 < rate < float("inf"):
        raise InputError("the frame rate must be positive", found=rate)
    with atomic_path(path) as partial:
        try:
            container = _FORMATS[path.suffix.lower()][0]
            with av.open(str(partial), "w", format=container) as file:
                writer = VideoWriter(av, file, path.suffix.lower(), rate)
                yield writer
                writer.finish()
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"{path} can't be written", found=str(error)) from error


class VideoWriter:
    """Takes clips, which follow one another in the video.

    Args:
        av: PyAV.
        file: Its opened container.
        suffix: Which chooses the codec.
        rate: Frames a second.
    """

    def __init__(self, av: Any, file: Any, suffix: str, rate: float) -> None:
        self._av = av
        self._file = file
        _, self._codec, self._pixels, self._options = _FORMATS[suffix]
        self._rate = Fraction(rate).limit_denominator(_RATE_DENOMINATOR)
        self._stream: Any = None

    def write(self, names: tuple[str, ...], frames: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """Appends clips: uint8 RGB [N, T, H, W, 3] or [N, H, W, 3]."""
        for frame in frames.reshape(-1, *frames.shape[-3:]):
            if self._stream is None:
                self._open(frame.shape[0], frame.shape[1])
            picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            self._file.mux(self._stream.encode(picture))

    def finish(self) -> None:
        """Writes what the codec holds back."""
        if self._stream is not None:
            self._file.mux(self._stream.encode())

    def _open(self, height: int, width: int) -> None:
        if self._pixels == "yuv420p" and (height % 2 or width % 2):
            raise InputError(
                "this kind of video takes even heights and widths",
                found=f"{height}x{width}",
                mend="write .mkv, which takes any",
            )
        self._stream = self._file.add_stream(self._codec, rate=self._rate, options=self._options)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = self._pixels
