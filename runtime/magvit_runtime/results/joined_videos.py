"""Videos as the clips of a token file put them together again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError
from magvit_runtime.results.token_files import TokenTable


@dataclass(frozen=True)
class JoinedVideo:
    """One video of a token file.

    Attributes:
        name: Name of its file, without the suffix; no other video of the token file has it.
        rows: Its clips in the table, in the order of time.
        steps: Steps of time that each of these clips has.
        kept: Frames of each clip that are the video's own, of those that a decoder gives.
        missing: Frames of the video that no decoder gives back.
        height, width: Pixels of a frame.
        rate: Frames a second; None where the video didn't say.
    """

    name: str
    rows: tuple[int, ...]
    steps: tuple[int, ...]
    kept: tuple[int, ...]
    missing: int
    height: int
    width: int
    rate: float | None

    @property
    def frames(self) -> int:
        """Frames in all."""
        return sum(self.kept)

    def batches(self, size: int) -> Iterator[range]:
        """Clips of equal length that follow one another, at most `size`; by their place in it."""
        first = 0
        for i in range(1, len(self.rows) + 1):
            if i == len(self.rows) or i - first == size or self.steps[i] != self.steps[first]:
                yield range(first, i)
                first = i

    def tokens(self, table: TokenTable, clips: range) -> NDArray[np.int32]:
        """Token ids of some of its clips, which are of equal length."""
        rows = [self.rows[i] for i in clips]
        whole: NDArray[np.int32] = table.tokens[rows, : self.steps[clips[0]]]
        return whole

    def own(self, frames: NDArray[np.uint8], clip: int) -> NDArray[np.uint8]:
        """What is the video's own of a decoded clip [T, H, W, 3]."""
        return frames[: self.kept[clip], : self.height, : self.width]


def joined_videos(path: Path | str, table: TokenTable, time_stride: int) -> tuple[JoinedVideo, ...]:
    """The videos of a token file; none where its clips don't come from videos.

    Args:
        path: The file, for messages.
        table: What it holds.
        time_stride: Frames that a token covers.

    Raises:
        InputError: Clips are missing between others, or there more than once; or what the file says
            of them makes no sense.
    """
    rows: dict[str, list[int]] = {}
    for row, place in enumerate(table.places if len(table.info.grid) == 3 else ()):
        rows.setdefault(place.source, []).append(row)
    taken: set[str] = set()
    return tuple(
        _video(path, table, time_stride, source, own, taken) for source, own in rows.items()
    )


def _video(
    path: Path | str,
    table: TokenTable,
    time_stride: int,
    source: str,
    rows: list[int],
    taken: set[str],
) -> JoinedVideo:
    rows = sorted(rows, key=lambda row: table.places[row].first_frame)
    places = [table.places[row] for row in rows]
    _check(path, source, [(place.first_frame, place.frames) for place in places])
    if len({(place.height, place.width, place.rate) for place in places}) != 1:
        raise InputError(f"{path} says different things of one video", found=source)
    whole = table.info.grid[0]
    steps = tuple(table.time_steps[row] if table.time_steps else whole for row in rows)
    decoded = [time_stride * (count - 1) + 1 for count in steps]
    kept = tuple(min(place.frames, n) for place, n in zip(places, decoded, strict=True))
    return JoinedVideo(
        name=_unique(PurePath(source).stem, taken),
        rows=tuple(rows),
        steps=steps,
        kept=kept,
        missing=sum(place.frames for place in places) - sum(kept),
        height=places[0].height,
        width=places[0].width,
        rate=_rate(path, places[0].rate),
    )


def _check(path: Path | str, source: str, clips: list[tuple[int, int]]) -> None:
    expected = clips[0][0]
    for first, frames in clips:
        if frames < 1 or first != expected:
            raise InputError(
                f"the clips of {source} in {path} don't follow one another",
                found=f"{frames} frames from frame {first} on",
                expected=f"a clip from frame {expected} on",
                mend="make the tokens anew with `magvit tokenize`",
            )
        expected = first + frames


def _rate(path: Path | str, text: str) -> float | None:
    try:
        return float(Fraction(text)) if text else None
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InputError(f"{path} has a frame rate that is no number", found=text) from error


def _unique(stem: str, taken: set[str]) -> str:
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return name
