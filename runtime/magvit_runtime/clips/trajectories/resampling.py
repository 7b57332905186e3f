"""Where a path is in each of a clip's frames, and where that cuts it."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.int64, np.float64)


class Cuts(NamedTuple):
    """How a path is cut at the times of frames.

    Attributes:
        before, after: int64 [frames], the path's points before and after each frame's time.
        share: float64 [frames], the part of the way from one to the other, 0..1.
        order: int64 [pieces + 1], the time order of the path's points and the frames' positions
            after them; each two neighbours bound a piece.
        first_frame: int64 [pieces], the first frame that shows the piece.
    """

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    share: NDArray[np.float64]
    order: NDArray[np.int64]
    first_frame: NDArray[np.int64]

    def heads(self, points: NDArray[Number]) -> NDArray[Number]:
        """Gives the position in each frame, [frames, ...], of points [points, ...].

        Between integers it is rounded to one.
        """
        share = self.share.reshape(-1, *[1] * (points.ndim - 1))
        steps = (points[self.after] - points[self.before]) * share
        if points.dtype == np.int64:
            steps = np.rint(steps)
        heads: NDArray[Number] = points[self.before] + steps.astype(points.dtype)
        return heads

    def pieces(
        self, points: NDArray[Number], heads: NDArray[Number]
    ) -> tuple[NDArray[Number], NDArray[Number]]:
        """Gives the starts and ends of the pieces, [pieces, ...] each."""
        path = np.concatenate([points, heads])[self.order]
        return path[:-1], path[1:]


def cut_at_frames(t: NDArray[np.float64], frames: int) -> Cuts:
    """Finds where a path is in each frame, linear in time.

    Frame k shows the path up to t[0] + k / (frames - 1) · (t[-1] - t[0]); one frame alone shows
    the whole path.

    Args:
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

    all_t = np.concatenate([t, frame_t])
    order = np.argsort(all_t, kind="stable")
    first_frame = np.searchsorted(frame_t, all_t[order][1:])
    return Cuts(before, after, share, order, first_frame)
