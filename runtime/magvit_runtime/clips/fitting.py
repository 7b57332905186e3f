"""Brings clips of any size to the size that a model takes: chooses frames, resizes, crops.

The arithmetic is that of transformers' Pillow processors, on bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle.pixel_rules import Preprocessing, Resizing
from magvit_runtime.clips.frame_choice import evenly_chosen
from magvit_runtime.errors import InputError
from magvit_runtime.hardware.packages import missing_package

Bytes = NDArray[np.uint8]

LARGEST_EDGE = 65_535  # Pixels, after resizing: a clip one pixel wide could fill any memory.


def fitted(clips: Bytes, rules: Preprocessing) -> Bytes:
    """Clips as the graph takes them.

    Args:
        clips: uint8 [N, T, H, W, 3], or images [N, H, W, 3], as `rules.layout` says.
        rules: What is done to them.

    Returns:
        uint8, with the rules' number of frames, height and width.

    Raises:
        InputError: A clip is so narrow that it can't be resized in proportion.
        MissingPackageError: Clips must be resized, and Pillow isn't installed.
    """
    if rules.frames is not None and rules.layout == "NTHWC" and clips.shape[1] != rules.frames:
        clips = clips[:, evenly_chosen(clips.shape[1], rules.frames)]
    if rules.resizing is not None:
        clips = _resized(clips, rules.resizing)
    return clips if rules.crop is None else center_crop(clips, rules.crop)


def resized_sizes(height: int, width: int, rule: Resizing) -> tuple[int, int]:
    """Height and width of frames after resizing."""
    if rule.shorter_edge is None:
        assert rule.sizes is not None  # `Resizing` says so.
        return rule.sizes
    short = rule.shorter_edge
    long = int(short * max(height, width) / min(height, width))
    return (short, long) if height <= width else (long, short)


def center_crop(frames: Bytes, sizes: tuple[int, int]) -> Bytes:
    """The middle of frames [..., H, W, 3], and black where a frame is smaller.

    Where the rest is odd, the smaller half is cut before; where black is added, the larger half
    comes before.
    """
    for axis, wanted in zip((-3, -2), sizes, strict=True):
        rest = frames.shape[axis] - wanted
        if rest < 0:
            widths = [(0, 0)] * frames.ndim
            widths[axis] = ((1 - rest) // 2, -rest // 2)
            frames = np.pad(frames, widths)
        elif rest > 0:
            cut: list[Any] = [slice(None)] * frames.ndim
            cut[axis] = slice(rest // 2, rest // 2 + wanted)
            frames = frames[tuple(cut)]
    return frames


def _resized(clips: Bytes, rule: Resizing) -> Bytes:
    *batch, height, width, channels = clips.shape
    target = resized_sizes(height, width, rule)
    if max(target) > LARGEST_EDGE:
        raise InputError(
            "clips are too narrow to be resized in proportion",
            found=f"{height}x{width}, which would become {target[0]}x{target[1]}",
            mend="crop or pad them first",
        )
    if target == (height, width):
        return clips  # Pillow copies such an image.
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_package("PIL", "resizing clips to the model's size") from error

    kind = Image.Resampling[rule.filter.upper()]
    resized = np.empty((*batch, *target, channels), np.uint8)
    sources, results = clips.reshape(-1, height, width, channels), resized.reshape(-1, *target, 3)
    for source, result in zip(sources, results, strict=True):
        image = Image.fromarray(np.ascontiguousarray(source))
        result[:] = np.asarray(image.resize((target[1], target[0]), kind))
    return resized
