"""Clips on which encoders are compared: drawn, flat and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.trajectories import RenderStyle, Trajectory, render

FRAMES, HEIGHT, WIDTH = 17, 128, 128


def verification_clips(clip_shape: tuple[int | str, ...]) -> NDArray[np.uint8]:
    """A drawn spiral, a flat background and noise: uint8 [3, T, H, W, 3] or [3, H, W, 3].

    Args:
        clip_shape: Shape of one clip; named sizes become 17 frames of 128x128 pixels.
    """
    defaults = {"frames": FRAMES, "height": HEIGHT, "width": WIDTH}
    shape = [size if isinstance(size, int) else defaults[size] for size in clip_shape]
    frames = shape[0] if len(shape) == 4 else 1
    t = np.arange(60, dtype=np.float64)
    xy = np.stack((t * np.cos(t / 6), t * np.sin(t / 6)), axis=1)
    style = RenderStyle(frames=frames, height=shape[-3], width=shape[-2])
    drawn = render([Trajectory("spiral", xy, t)], style).reshape(1, *shape)
    noise = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    return np.concatenate((drawn, np.zeros_like(drawn), noise))
