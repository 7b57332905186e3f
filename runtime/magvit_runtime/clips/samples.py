"""Clips on which encoders are compared: drawn, noise, flat and extreme ones.

Flat clips are what rendered trajectories mostly are, and where sums of squares go wrong first; on
grey, near the middle of the input's range, activations are so small that even GroupNorm's epsilon
shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories import DEFAULT_STYLE, RenderStyle, Trajectory, render

FRAMES, HEIGHT, WIDTH = 17, 128, 128
# No stride divides these, nor what remains after the first downsampling.
ODD_FRAMES, ODD_HEIGHT, ODD_WIDTH = 7, 45, 61
CLIP_NAMES = ("drawn", "noise", "grey", "all 0", "all 255", "checkerboard")
GREY = 128
SMALLEST_DRAWING = 4


def usual_shape(clip_shape: Sequence[int | str]) -> tuple[int, ...]:
    """A clip shape with its named sizes chosen: 17 frames of 128x128 pixels."""
    return _chosen(clip_shape, {"frames": FRAMES, "height": HEIGHT, "width": WIDTH})


def odd_shape(clip_shape: Sequence[int | str]) -> tuple[int, ...]:
    """A clip shape with its named sizes chosen odd: 7 frames of 45x61 pixels."""
    return _chosen(clip_shape, {"frames": ODD_FRAMES, "height": ODD_HEIGHT, "width": ODD_WIDTH})


def verification_clips(clip_shape: Sequence[int | str]) -> NDArray[np.uint8]:
    """The clips of `CLIP_NAMES`: uint8 [6, T, H, W, 3] or [6, H, W, 3].

    A drawn spiral, seeded noise, grey (128), black, white, and a checkerboard of single pixels that
    changes colour from frame to frame.

    Args:
        clip_shape: Shape of one clip; named sizes become 17 frames of 128x128 pixels.
    """
    shape = usual_shape(clip_shape)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    parity = np.indices(shape[:-1]).sum(axis=0) % 2
    checkerboard = np.repeat(parity[..., None] * 255, 3, axis=-1)
    flat = (np.full(shape, level) for level in (GREY, 0, 255))
    return np.stack([_drawn(shape), noise, *flat, checkerboard]).astype(np.uint8)


def drawing_style(clip_shape: tuple[int, ...]) -> RenderStyle:
    """The usual style at the size of a clip, with a smaller margin and line where it needs them.

    Args:
        clip_shape: [T, H, W, 3] or [H, W, 3]; height and width of 4 pixels at least.

    Raises:
        InputError: It leaves no room for a line.
    """
    frames, height, width = (1, *clip_shape)[-4:-1]
    margin = max(1, min(DEFAULT_STYLE.margin, (min(height, width) - 2) // 2))
    radius = min(DEFAULT_STYLE.head_radius, margin - 0.5)
    return RenderStyle(
        frames=frames,
        height=height,
        width=width,
        margin=margin,
        trail_width=min(DEFAULT_STYLE.trail_width, 2 * radius),
        head_radius=radius,
    )


def _chosen(clip_shape: Sequence[int | str], sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else sizes[size] for size in clip_shape)


def _drawn(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    height, width = shape[-3:-1]
    if min(height, width) < SMALLEST_DRAWING:
        return np.eye(height, width, dtype=np.uint8)[..., None] * np.full(shape, 255, np.uint8)
    t = np.arange(60, dtype=np.float64)
    xy = np.stack((t * np.cos(t / 6), t * np.sin(t / 6)), axis=1)
    return render([Trajectory("spiral", xy, t)], drawing_style(shape)).reshape(shape)
