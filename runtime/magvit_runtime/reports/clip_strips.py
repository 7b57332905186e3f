"""A clip as one picture, its frames below each other, which a page plays without a video player."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.hardware.packages import missing_package

# Larger clips are shown smaller, and of longer ones some frames, evenly: browsers have limits.
LARGEST_SIDE = 256
MOST_FRAMES = 48
COLOR_QUALITY = 80


@dataclass(frozen=True)
class ClipStrip:
    """A clip for a page.

    Attributes:
        image: The picture as a data: address.
        frames: Frames in it.
        width, height: Pixels of a frame.
    """

    image: str
    frames: int
    width: int
    height: int


def clip_strip(clip: NDArray[np.uint8]) -> ClipStrip:
    """Makes a strip of a clip: without loss where it is gray, else as a photo.

    Args:
        clip: uint8 RGB [T, H, W, 3], or [H, W, 3] of a still picture.

    Raises:
        MissingPackageError: Pillow isn't installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_package("PIL", "a page with clips") from error
    clip = clip if clip.ndim == 4 else clip[None]
    if len(clip) > MOST_FRAMES:
        clip = clip[np.linspace(0, len(clip) - 1, MOST_FRAMES).round().astype(int)]
    frames, height, width, _ = clip.shape
    is_gray = bool((clip == clip[..., :1]).all())
    pixels = clip[..., 0] if is_gray else clip
    shrink = max(height, width) / LARGEST_SIDE
    if shrink > 1:
        height, width = max(1, round(height / shrink)), max(1, round(width / shrink))
        smaller = [Image.fromarray(frame).resize((width, height)) for frame in pixels]
        pixels = np.stack([np.asarray(frame) for frame in smaller])
    strip = Image.fromarray(pixels.reshape(frames * height, *pixels.shape[2:]))
    data = io.BytesIO()
    kind = "png" if is_gray else "webp"
    strip.save(data, kind, **({"optimize": True} if is_gray else {"quality": COLOR_QUALITY}))
    text = base64.b64encode(data.getvalue()).decode()
    return ClipStrip(f"data:image/{kind};base64,{text}", frames, width, height)
