"""Cuts a path at the times of a clip's frames."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class FramedPath(NamedTuple):
    """A path as the frames of a clip show it.

    Attributes:
        heads: int64 [frames, 2], the position in each frame.
        points: int64 [pieces + 1, 2], the path's own points and the heads, in time order; each
            two neighbours bound a piece.
        first_frame: int64 [pieces], the first frame that shows the piece.
    """

    heads: NDArray[np.int64]
    points: NDArray[np.int64]
    first_frame: NDArray[np.int64]


def cut_at_frames(points: NDArray[np.int64], t: NDArray[np.float64], frames: int) -> FramedPath:
    """Finds where the path is in each frame, linear in time, and cuts it there.

    Frame k shows the path up to t[0] + k / (frames - 1) · (t[-1] - t[0]); one frame alone shows
    the whole path.

    Args:
        points: int64 [points, 2] on the grid of `fit`.
        t: float64 [points], strictly increasing.
        frames: Number of frames, at least 1.
    """
    # As shares of the duration, the first and last times are exactly 0 and 1.
    t = (t - t[0]) / (t[-1] - t[0])
    frame_t = np.arange(frames) / (frames - 1) if frames > 1 else np.ones(1)

    # np.interp is not used: compilers may fuse its multiply and add, which changes the last bit.
    before = np.searchsorted(t, frame_t, side="right") - 1
    after = np.minimum(before + 1, len(t) - 1)
    gap = t[after] - t[before]
    share = (frame_t - t[before]) / np.where(gap > 0, gap, 1)
    steps = (points[after] - points[before]) * share[:, None]
    heads = points[before] + np.rint(steps).astype(np.int64)

    all_t = np.concatenate([t, frame_t])
    order = np.argsort(all_t, kind="stable")
    return FramedPath(
        heads=heads,
        points=np.concatenate([points, heads])[order],
        first_frame=np.searchsorted(frame_t, all_t[order][1:]),
    )
