"""A few clips at a time: what sources of clips give, and what graphs take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.types import Array


@dataclass(frozen=True)
class VideoPlace:
    """Where in a video a clip lies: what puts the video together again.

    Attributes:
        source: The file's absolute path.
        first_frame: Number of the clip's first frame in it, from 0.
        frames: Frames that are the video's own; those after them repeat the last one.
        height, width: Pixels of a frame, turned as players show it.
        rate: Frames a second, on average: a fraction as "25" or "30000/1001"; "" where the file
            doesn't say.
    """

    source: str
    first_frame: int
    frames: int
    height: int
    width: int
    rate: str


@dataclass(frozen=True)
class ClipBatch:
    """A few clips.

    Attributes:
        ids: Name of each clip.
        labels: Class of each clip, where it is known.
        frames: uint8 RGB [N, T, H, W, 3].
        places: Where each clip lies in its video; empty where they come from something else.
    """

    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    frames: NDArray[np.uint8]
    places: tuple[VideoPlace, ...] = ()


def in_batches(clips: Array, size: int) -> Iterator[tuple[Array, int]]:
    """Batches of exactly `size` clips, and how many of each are new.

    Graphs of a fixed batch take no smaller one, so the last is filled up with the first clips.
    """
    for first in range(0, len(clips), size):
        indices = np.arange(first, first + size) % len(clips)
        yield clips[indices], min(size, len(clips) - first)
