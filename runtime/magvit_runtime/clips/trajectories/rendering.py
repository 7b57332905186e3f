"""Renders trajectories as uint8 clips, the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.fitting import fit
from magvit_runtime.clips.trajectories.painting import paint
from magvit_runtime.clips.trajectories.records import Trajectory
from magvit_runtime.clips.trajectories.resampling import cut_at_frames
from magvit_runtime.clips.trajectories.style import RenderStyle
from magvit_runtime.errors import InputError

# Clips painted at once: enough to fill NumPy's loops, few enough to stay in the cache.
CLIPS_AT_ONCE = 16


def render(trajectories: Sequence[Trajectory], style: RenderStyle) -> NDArray[np.uint8]:
    """Renders each trajectory as one clip.

    Each path is scaled to the margin box and centred. Frame k shows, as a dim trail, the path up
    to share k / (frames - 1) of its duration and, as a bright disc, the position at that time.

    Args:
        trajectories: N trajectories.
        style: Size, length and look of the clips.

    Returns:
        uint8 [N, T, H, W, 3], gray (R = G = B) in [0, 255]; pixels that nothing is drawn on are
        exactly `style.background`. The bytes are the same on every machine.
    """
    shape = (len(trajectories), style.frames, style.height, style.width, 3)
    clips = np.full(shape, style.background, dtype=np.uint8)
    for first in range(0, len(trajectories), CLIPS_AT_ONCE):
        chunk = slice(first, first + CLIPS_AT_ONCE)
        _draw(trajectories[chunk], style, clips[chunk])
    return clips


def render_batches(
    trajectories: Iterable[Trajectory], style: RenderStyle, batch_size: int
) -> Iterator[tuple[list[Trajectory], NDArray[np.uint8]]]:
    """Renders a stream of trajectories batch by batch.

    Args:
        trajectories: Read as far as each batch needs.
        style: Size, length and look of the clips.
        batch_size: Trajectories in a batch; the last may have fewer.

    Yields:
        The batch's trajectories and their clips, as `render` gives them, in a new array.

    Raises:
        InputError: batch_size is below 1.
    """
    if batch_size < 1:
        raise InputError("batch_size is too small", found=batch_size, expected="≥ 1")
    stream = iter(trajectories)
    while batch := list(islice(stream, batch_size)):
        yield batch, render(batch, style)


def _draw(trajectories: Sequence[Trajectory], style: RenderStyle, clips: NDArray[np.uint8]) -> None:
    """Draws into background-filled clips, uint8 [N, T, H, W, 3], in place."""
    paths = [cut_at_frames(fit(item.xy, style), item.t, style.frames) for item in trajectories]
    gray = np.zeros(clips.shape[:-1], dtype=np.uint8)
    pictures = gray.reshape(-1, style.height, style.width)

    first_picture = np.concatenate(
        [clip * style.frames + path.first_frame for clip, path in enumerate(paths)]
    )
    paint(
        pictures,
        first_picture,
        start=np.concatenate([path.points[:-1] for path in paths]),
        end=np.concatenate([path.points[1:] for path in paths]),
        radius=style.trail_width / 2,
        level=style.trail_level - style.background,
    )
    for frame in range(1, style.frames):
        np.maximum(gray[:, frame], gray[:, frame - 1], out=gray[:, frame])
    heads = np.concatenate([path.heads for path in paths])
    paint(
        pictures,
        np.arange(len(heads)),
        start=heads,
        end=heads,
        radius=style.head_radius,
        level=style.head_level - style.background,
    )

    # Few pixels are drawn on: writing only those is several times faster than all, and leaves
    # the background untouched.
    drawn = np.flatnonzero(gray > 0)
    values = gray.reshape(-1)[drawn] + np.uint8(style.background)
    for channel in range(3):
        clips.reshape(-1)[3 * drawn + channel] = values
