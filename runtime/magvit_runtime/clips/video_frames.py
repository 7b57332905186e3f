"""Decodes a video to upright RGB frames, through PyAV; torch has no part in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.display_matrix import parse_matrix, turned
from magvit_runtime.errors import InputError, first_line
from magvit_runtime.hardware.packages import missing_package

# FFmpeg's flags of a stream: played unless another is chosen; a cover; pictures of a menu.
_DEFAULT, _NO_VIDEO = 1, 0x400 | 0x800
# By how many frames a file may be shorter than it says: rounded times are off by one.
_ROUNDING = 2


@dataclass
class VideoReport:
    """What reading one video met; it grows while the video is read.

    Attributes:
        frames: Frames that were decoded.
        left_out: Frames at the end that are in no clip.
        repeated: Repeats of the last frame that fill the last clip.
        problems: What may be wrong with the file, a sentence each.
    """

    frames: int = 0
    left_out: int = 0
    repeated: int = 0
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Says in a line each what was read, left out and repeated, and what may be wrong."""
        lines = [f"{self.frames} frames read"]
        if self.left_out:
            lines[0] += (
                f"; the last {self.left_out} fill no clip and are left out "
                "(--tail pad or --tail short keeps them)"
            )
        if self.repeated:
            lines[0] += f"; the last one is repeated {self.repeated} times to fill the last clip"
        return "\n".join([*lines, *self.problems])


@dataclass(frozen=True)
class Video:
    """An open video.

    Attributes:
        path: The file.
        rate: Frames a second, on average; None where the file doesn't say.
    """

    path: Path
    rate: Fraction | None
    _container: Any
    _stream: Any

    def frames(self, report: VideoReport) -> Iterator[NDArray[np.uint8]]:
        """All frames in the order in which they are shown: uint8 RGB [H, W, 3].

        They come as they are, whatever time lies between them. The display matrix turns them.
        Colour is converted by the matrix and the range that the stream names (BT.601 and limited
        where it names none), deeper samples are rounded to 8 bits, alpha is left out, fields of an
        interlaced video stay woven, and pixels that aren't square stay as they are.

        Args:
            report: Filled while frames are read.

        Raises:
            InputError: A frame can't be decoded, or is turned by no right angle.
        """
        import av

        damaged = interlaced = 0
        end = Fraction(0)
        frames = self._container.decode(self._stream)
        while True:
            try:
                frame = next(frames, None)
            except (av.FFmpegError, ValueError) as error:
                raise self._damaged(report.frames, error) from error
            if frame is None:
                break
            report.frames += 1
            damaged += frame.is_corrupt
            interlaced += frame.interlaced_frame
            if frame.pts is not None and frame.time_base is not None:
                end = max(end, (frame.pts + (frame.duration or 0)) * frame.time_base)
            yield self._upright(frame)
        if damaged:
            report.problems.append(f"{damaged} frames of {self.path} are marked as damaged")
        if interlaced:
            report.problems.append(f"{self.path} is interlaced; its fields are read woven")
        if missing := self._missing(report.frames, end):
            report.problems.append(missing)

    def _upright(self, frame: Any) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return picture
        try:
            return turned(picture, parse_matrix(bytes(matrix)))
        except InputError as error:
            raise InputError(
                f"{self.path} can't be shown upright: {error.what}",
                found=error.found,
                mend=error.mend,
            ) from error

    def _damaged(self, frames: int, error: Exception) -> InputError:
        return InputError(
            f"{self.path} is damaged after {frames} frames",
            found=first_line(error),
            mend="keep what can be read: ffmpeg -i VIDEO -c:v ffv1 readable.mkv",
        )

    def _missing(self, frames: int, end: Fraction) -> str:
        """Says where the file has fewer frames than it promises; "" where it has them."""
        stream = self._stream
        if stream.frames > frames:
            return f"{self.path} gave {frames} of the {stream.frames} frames that it should have"
        promised = self._promised_seconds()
        if self.rate and promised - float(end) > _ROUNDING / float(self.rate):
            return f"{self.path} ended after {float(end):.2f} of {promised:.2f} seconds"
        return ""

    def _promised_seconds(self) -> float:
        """How long the stream should be; 0 where nothing but its frames says that."""
        # Matroska's, as "00:00:04.000000000".
        written = self._stream.metadata.get("DURATION", "")
        if written.count(":") == 2:
            hours, minutes, seconds = written.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        # The whole file's, which sound may stretch.
        alone = len(self._container.streams) == 1 and not self._stream.frames
        duration = self._container.duration if alone else None
        return 0.0 if duration is None else duration / 1e6


@contextmanager
def open_video(path: Path, report: VideoReport) -> Iterator[Video]:
    """Opens the stream of a video that players show: the one marked as default, or else the first.

    Args:
        path: The file.
        report: Told of other streams.

    Raises:
        MissingPackageError: PyAV isn't installed.
        InputError: There is no such file, it is no video, or it has only sound and covers.
    """
    try:
        import av
    except ImportError as error:
        raise missing_package("av", "reading a video") from error
    if not path.is_file():
        raise InputError(f"{path} is no file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty", found="0 bytes")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"{path} can't be decoded", found=first_line(error)) from error
    with container:
        moving = [s for s in container.streams.video if not s.disposition.value & _NO_VIDEO]
        if not moving:
            kinds = [s.type for s in container.streams if s.type != "video"]
            covers = ["a cover"] if container.streams.video else []
            raise InputError(
                f"{path} has no video: there are no pictures in it, or only a cover",
                found=", ".join([*kinds, *covers]) or "no streams",
            )
        stream = next((s for s in moving if s.disposition.value & _DEFAULT), moving[0])
        if len(moving) > 1:
            report.problems.append(
                f"{path} has {len(moving)} videos; the one of stream {stream.index} is read"
            )
        rate = stream.average_rate or stream.guessed_rate
        yield Video(path, rate, container, stream)
