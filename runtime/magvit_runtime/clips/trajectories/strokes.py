"""What is drawn of a trajectory: pieces of its trail, and its head in each frame.

A head is a disc; of a box, its outline. In space, a head is larger and brighter the nearer it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.camera import Cameras
from magvit_runtime.clips.trajectories.fitting import GRID, fit
from magvit_runtime.clips.trajectories.projection import see
from magvit_runtime.clips.trajectories.records import Trajectory
from magvit_runtime.clips.trajectories.resampling import cut_at_frames
from magvit_runtime.clips.trajectories.style import RenderStyle
from magvit_runtime.errors import InputError

Ends = tuple[NDArray[np.int64], NDArray[np.int64]]
# The sides of a box: pairs of (left, top, right, bottom) that their ends are.
_SIDES = (((0, 1), (2, 1)), ((2, 1), (2, 3)), ((2, 3), (0, 3)), ((0, 3), (0, 1)))
LARGEST_HEAD = 1.5


@dataclass(frozen=True, eq=False)
class Strokes:
    """Pieces of line; positions are x and y in 1/GRID pixel, as of `fit`.

    Attributes:
        trail: Starts and ends of the trail's pieces, int64 [pieces, 2] each.
        first_frame: int64 [pieces], the first frame that shows each.
        head: Starts and ends of the heads' pieces, int64 [heads, 2] each; equal for a disc.
        frame: int64 [heads], the frame that shows each.
        radius: float64 [heads], of the disc, or half the width of the line, in pixels.
        level: int64 [heads], gray level above the background.
    """

    trail: Ends
    first_frame: NDArray[np.int64]
    head: Ends
    frame: NDArray[np.int64]
    radius: NDArray[np.float64]
    level: NDArray[np.int64]


def strokes_of(trajectory: Trajectory, style: RenderStyle, cameras: Cameras, view: int) -> Strokes:
    """Gives what is drawn of a trajectory.

    Args:
        trajectory: Of any kind.
        style: Size, length and look of the clip.
        cameras: See it if it is in space.
        view: Which of them.

    Raises:
        InputError: There is a camera, or more than one, and nothing in space for it.
    """
    if trajectory.z is not None:
        # What is too far away for numbers is left out.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return _of_space(trajectory, style, cameras, view)
    if cameras.camera is not None or cameras.views > 1:
        raise InputError(
            f"trajectory {trajectory.id!r} has no z for a camera to see",
            found="a box" if trajectory.size is not None else "x and y",
            expected="x, y and z",
            mend="leave out --camera, --up and --views; a classifier that was trained on clips of "
            "cameras takes no others",
        )
    return _of_point(trajectory, style) if trajectory.size is None else _of_box(trajectory, style)


def _of_point(trajectory: Trajectory, style: RenderStyle) -> Strokes:
    cuts = cut_at_frames(trajectory.t, style.frames)
    points = fit(trajectory.xy, style)
    heads = cuts.heads(points)
    return Strokes(
        cuts.pieces(points, heads),
        cuts.first_frame,
        (heads, heads),
        np.arange(style.frames),
        np.full(style.frames, style.head_radius),
        np.full(style.frames, style.head_level - style.background),
    )


def _of_box(trajectory: Trajectory, style: RenderStyle) -> Strokes:
    assert trajectory.size is not None
    cuts = cut_at_frames(trajectory.t, style.frames)
    half = trajectory.size / 2
    # Corners are fitted, so that whole boxes stay inside the margin.
    corners = fit(np.concatenate([trajectory.xy - half, trajectory.xy + half]), style)
    boxes = np.concatenate(np.split(corners, 2), axis=1)
    middles = (boxes[:, :2] + boxes[:, 2:]) // 2
    heads = cuts.heads(boxes)
    sides = [tuple(heads[:, at] for at in map(list, ends)) for ends in _SIDES]
    starts, ends = (np.concatenate(part) for part in zip(*sides, strict=True))
    return Strokes(
        cuts.pieces(middles, cuts.heads(middles)),
        cuts.first_frame,
        (starts, ends),
        np.tile(np.arange(style.frames), len(_SIDES)),
        np.full(len(starts), style.trail_width / 2),
        np.full(len(starts), style.head_level - style.background),
    )


def _of_space(trajectory: Trajectory, style: RenderStyle, cameras: Cameras, view: int) -> Strokes:
    assert trajectory.z is not None
    cuts = cut_at_frames(trajectory.t, style.frames)
    xyz = np.concatenate([trajectory.xy, trajectory.z[:, None]], axis=1)
    seen = see(xyz, cameras.first, cameras.turn(view), style)
    heads = cuts.heads(seen.points)
    starts, ends = cuts.pieces(seen.points, heads)
    starts, ends, in_front = _cut(starts, ends, _before_near(starts, ends, seen.near))
    trail, in_sight = _on_grid(seen.pixels(starts, style), seen.pixels(ends, style), style)

    shown = np.flatnonzero(heads[:, 2] >= seen.near)
    pixels = seen.pixels(heads[shown], style)
    head, seen_heads = _on_grid(pixels, pixels, style)
    shown = shown[seen_heads]
    nearness = seen.nearness(heads[shown, 2], style)
    # The nearest heads have the head's level, the farthest half of the way down to the trail's.
    far = (style.head_level - style.trail_level) / 2
    level = style.head_level - style.background - np.rint((1.5 - nearness) * far)
    return Strokes(
        trail,
        cuts.first_frame[in_front][in_sight],
        head,
        shown,
        # A head hides the end of the trail, however far it is.
        np.maximum(style.head_radius * nearness, style.trail_width / 2),
        level.astype(np.int64),
    )


Shares = tuple[NDArray[np.float64], NDArray[np.float64]]


def _before_near(starts: NDArray[np.float64], ends: NDArray[np.float64], near: float) -> Shares:
    """Which shares of pieces in space, from and to, are not nearer than `near`."""
    return _inside(starts[:, 2:], ends[:, 2:], np.array([near]), np.array([np.inf]))


def _on_grid(
    starts: NDArray[np.float64], ends: NDArray[np.float64], style: RenderStyle
) -> tuple[Ends, NDArray[np.int64]]:
    """Cuts pieces in pixels at the edge of what shows, and says which are left.

    What is drawn at a position within `reach` of the picture shows.
    """
    low = np.full(2, -float(reach(style)))
    high = np.array([style.width - 1, style.height - 1]) - low
    starts, ends, left = _cut(starts, ends, _inside(starts, ends, low, high))
    # Rounding may have left the cuts a little outside.
    return (
        np.rint(np.clip(starts, low, high) * GRID).astype(np.int64),
        np.rint(np.clip(ends, low, high) * GRID).astype(np.int64),
    ), left


def reach(style: RenderStyle) -> int:
    """Pixels from the picture within which the largest head, and the trail, may show in it."""
    return int(np.ceil(LARGEST_HEAD * style.head_radius + 0.5))


def _inside(
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> Shares:
    """Which shares of pieces [pieces, axes], from and to, are between bounds [axes].

    From is above to where none is. (Liang and Barsky, 1984.)
    """
    delta = ends - starts
    one, other = (low - starts) / delta, (high - starts) / delta
    still = delta == 0
    within = (starts >= low) & (starts <= high)
    enter = np.where(still, np.where(within, 0, 2), np.minimum(one, other))
    leave = np.where(still, np.where(within, 1, -1), np.maximum(one, other))
    return np.maximum(enter.max(axis=1), 0), np.minimum(leave.min(axis=1), 1)


def _cut(
    starts: NDArray[np.float64], ends: NDArray[np.float64], shares: Shares
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Gives what is left of pieces, and which they are."""
    first, last = shares
    # Written so that NaN, from numbers beyond all cameras, is left out.
    left = np.flatnonzero((first <= last) & np.isfinite(starts + ends).all(axis=1))
    starts, ends, first, last = starts[left], ends[left], first[left, None], last[left, None]
    delta = ends - starts
    # Ends that aren't cut stay as they are, to the last bit.
    return (
        np.where(first > 0, starts + delta * first, starts),
        np.where(last < 1, starts + delta * last, ends),
        left,
    )
