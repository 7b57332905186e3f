"""What sources of clips give: a few clips at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
