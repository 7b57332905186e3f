"""Renders trajectories as uint8 clips, the same bytes on every machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.camera import ONE_CAMERA, Cameras, view_id
from magvit_runtime.clips.trajectories.fitting import GRID
from magvit_runtime.clips.trajectories.painting import paint
from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem, Trajectory
from magvit_runtime.clips.trajectories.strokes import Strokes, reach, strokes_of
from magvit_runtime.clips.trajectories.style import RenderStyle
from magvit_runtime.errors import InputError

# Clips painted at once: enough to fill NumPy's loops, few enough to stay in the cache.
CLIPS_AT_ONCE = 16
# A trajectory and the camera that sees it.
View = tuple[Trajectory, int]


def render(
    trajectories: Sequence[Trajectory], style: RenderStyle, cameras: Cameras = ONE_CAMERA
) -> NDArray[np.uint8]:
    """Renders each trajectory as one clip, or as one of each camera.

    Each path in the plane is scaled to the margin box and centred; so are boxes, as a whole. Paths
    in space are seen by a camera, which says how they are placed. Frame k shows, as a dim trail,
    the path up to share k / (frames - 1) of its duration and, as a bright disc, the position at
    that time, or the outline of the box.

    Args:
        trajectories: N trajectories.
        style: Size, length and look of the clips.
        cameras: V cameras, for trajectories in space.

    Returns:
        uint8 [N·V, T, H, W, 3], the views of each trajectory after each other; gray (R = G = B) in
        [0, 255]; pixels that nothing is drawn on are exactly `style.background`. The bytes are the
        same on every machine.

    Raises:
        InputError: There is a camera, or more than one, and a trajectory that isn't in space.
    """
    views = [(trajectory, view) for trajectory in trajectories for view in range(cameras.views)]
    return _render(views, style, cameras)


def render_batches(
    trajectories: Iterable[Trajectory],
    style: RenderStyle,
    batch_size: int,
    cameras: Cameras = ONE_CAMERA,
) -> Iterator[tuple[list[Trajectory], NDArray[np.uint8]]]:
    """Renders a stream of trajectories batch by batch.

    Args:
        trajectories: Read as far as each batch needs.
        style: Size, length and look of the clips.
        batch_size: Clips in a batch; the last may have fewer.
        cameras: For trajectories in space.

    Yields:
        The batch's trajectories and their clips, as `render` gives them, in a new array. Where
        there are several cameras, a trajectory comes once for each, with the id of `view_id`.

    Raises:
        InputError: batch_size is below 1; or as of `render`.
    """
    if batch_size < 1:
        raise InputError("batch_size is too small", found=batch_size, expected="≥ 1")
    stream = ((item, view) for item in trajectories for view in range(cameras.views))
    while views := list(islice(stream, batch_size)):
        clips = _render(views, style, cameras)
        if cameras.views == 1:
            yield [item for item, _ in views], clips
        else:
            names = [view_id(item.id, view, cameras.views) for item, view in views]
            items = [item for item, _ in views]
            yield [dataclasses.replace(i, id=n) for i, n in zip(items, names, strict=True)], clips


def note_unseen(
    batch: Sequence[Trajectory],
    clips: NDArray[np.uint8],
    style: RenderStyle,
    cameras: Cameras,
    report: ReadReport,
) -> None:
    """Reports clips of `render_batches` on which nothing is drawn.

    Only a camera that stands still can miss a trajectory.
    """
    if not cameras.first.stands_still:
        return
    for item, clip in zip(batch, clips, strict=True):
        if (clip == style.background).all():
            message = "the camera sees none of it; its clip is empty"
            report.add(RowProblem(item.first_row, item.id, "out_of_view", message, "noted"))


def _render(views: Sequence[View], style: RenderStyle, cameras: Cameras) -> NDArray[np.uint8]:
    shape = (len(views), style.frames, style.height, style.width, 3)
    clips = np.full(shape, style.background, dtype=np.uint8)
    for first in range(0, len(views), CLIPS_AT_ONCE):
        chunk = slice(first, first + CLIPS_AT_ONCE)
        strokes = [strokes_of(item, style, cameras, view) for item, view in views[chunk]]
        # Fixed cameras may see a part of what is drawn at the edge.
        is_in_space = any(item.z is not None for item, _ in views[chunk])
        _draw(strokes, style, 2 * reach(style) + 1 if is_in_space else 0, clips[chunk])
    return clips


def _draw(
    strokes: Sequence[Strokes], style: RenderStyle, border: int, clips: NDArray[np.uint8]
) -> None:
    """Draws into background-filled clips, uint8 [N, T, H, W, 3], in place.

    Args:
        strokes: What is drawn of each.
        style: Size, length and look of the clips.
        border: Pixels around the picture that are drawn on, and then cut off.
        clips: The clips.
    """
    frames, height, width = style.frames, style.height + 2 * border, style.width + 2 * border
    canvas = np.zeros((len(clips), frames, height, width), dtype=np.uint8)
    pictures = canvas.reshape(-1, height, width)

    trail_starts, trail_ends = _ends([item.trail for item in strokes], border)
    trails = np.concatenate([clip * frames + item.first_frame for clip, item in enumerate(strokes)])
    paint(
        pictures,
        trails,
        trail_starts,
        trail_ends,
        np.full(len(trails), style.trail_width / 2),
        np.full(len(trails), style.trail_level - style.background),
    )
    for frame in range(1, frames):
        np.maximum(canvas[:, frame], canvas[:, frame - 1], out=canvas[:, frame])
    head_starts, head_ends = _ends([item.head for item in strokes], border)
    paint(
        pictures,
        np.concatenate([clip * frames + item.frame for clip, item in enumerate(strokes)]),
        head_starts,
        head_ends,
        np.concatenate([item.radius for item in strokes]),
        np.concatenate([item.level for item in strokes]),
    )
    gray = np.ascontiguousarray(canvas[:, :, border : height - border, border : width - border])

    # Few pixels are drawn on: writing only those is several times faster than all, and leaves
    # the background untouched.
    drawn = np.flatnonzero(gray > 0)
    values = gray.reshape(-1)[drawn] + np.uint8(style.background)
    for channel in range(3):
        clips.reshape(-1)[3 * drawn + channel] = values


def _ends(
    pieces: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], border: int
) -> Iterator[NDArray[np.int64]]:
    """The starts, then the ends, of all pieces, moved by a border."""
    for part in zip(*pieces, strict=True):
        yield np.concatenate(part) + border * GRID
