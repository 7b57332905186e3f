"""Finds the parts of a rendered clip's feature maps that need to be computed only once.

Where a conv reads only a constant background, its result depends only on the frame and on the
distance to the borders. So each map is computed at the 4x4 tiles that the drawing can reach, and
for a small clip of background alone. Once the drawing reaches a pixel, the pixel counts as reached
from then on. Strokes of rendered trajectories stay, so this is exact for them. For other clips it
costs time but no accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.cpu.maps import TILE
from magvit_runtime.backends.native.program import Conv, Program, Sizes

# The share of work that sharing must save: its blocks of tiles are less regular than a whole map's.
WORTH_SHARING = 0.85


@dataclass(frozen=True)
class Sharing:
    """Where one map shares its background.

    Attributes:
        reached: int16 [H, W]: the frame at which the drawing reaches a pixel; T means never.
        margins: Pixels from the top and bottom, and from left and right, within which background
            depends on the distance to the border.
        sizes: Frames, height and width of the map.
    """

    reached: NDArray[np.int16]
    margins: tuple[int, int]
    sizes: Sizes

    @property
    def first_frames(self) -> NDArray[np.int16]:
        """The frame from which on each tile is reached: int16 [ceil(H / 4), ceil(W / 4)]."""
        frames, height, width = self.sizes
        rows, columns = _tiles(height), _tiles(width)
        padded = np.full((rows * TILE, columns * TILE), frames, np.int16)
        padded[:height, :width] = self.reached
        result: NDArray[np.int16] = padded.reshape(rows, TILE, columns, TILE).min(axis=(1, 3))
        return result

    @property
    def background_sizes(self) -> tuple[int, int]:
        """Height and width of the background: whole tiles, with a middle beyond the margins."""
        _, height, width = self.sizes
        rows, columns = (_tiles(2 * margin + 1) * TILE for margin in self.margins)
        return min(height, rows), min(width, columns)

    @property
    def share(self) -> float:
        """Tiles to be computed, the background's included, of all there are."""
        frames, height, width = self.sizes
        rows, columns = self.background_sizes
        own = (frames - self.first_frames).sum(dtype=np.int64)
        background = frames * _tiles(rows) * _tiles(columns)
        return float(own + background) / (frames * _tiles(height) * _tiles(width))

    def counts(self) -> NDArray[np.float32]:
        """Pixels for which each background pixel stands: float32 [T, height, width]."""
        frames, height, width = self.sizes
        rows, columns = self.background_sizes
        unreached = np.arange(frames)[:, None, None] < self.first_frames
        counts = _pixels(height, rows) @ unreached.astype(np.float32) @ _pixels(width, columns).T
        return np.ascontiguousarray(counts)


def background_color(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colour that most border pixels of a clip have.

    Args:
        frames: uint8 [T, H, W, 3].

    Returns:
        uint8 [3].
    """
    edges = (frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1])
    border = np.concatenate([edge.reshape(-1, 3) for edge in edges])
    codes = border.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])
    values, counts = np.unique(codes, return_counts=True)
    code = int(values[counts.argmax()])
    return np.array([code >> 16, code >> 8 & 255, code & 255], np.uint8)


def plan_sharing(
    program: Program, pixels: str, frames: NDArray[np.uint8], color: NDArray[np.uint8]
) -> Mapping[str, Sharing]:
    """The maps of a clip that share their background, by value; the others are computed whole.

    Args:
        program: The program.
        pixels: The value that the normalised frames are.
        frames: uint8 [T, H, W, 3].
        color: uint8 [3], the background.
    """
    sizes = frames.shape[0], frames.shape[1], frames.shape[2]
    red, green, blue = np.moveaxis(frames != color, -1, 0)
    drawn = red | green | blue
    reached = np.where(drawn.any(axis=0), drawn.argmax(axis=0), sizes[0]).astype(np.int16)
    plan = {pixels: Sharing(reached, (0, 0), sizes)}
    # Only convs can read shared maps. A map that another step or the caller reads must be whole.
    others = (step for step in program.steps if not isinstance(step, Conv))
    whole = {name for step in others for name in step.reads}
    whole |= {output.value for output in program.outputs}
    for conv in program.convs:
        read = [plan.get(name) for name in conv.reads]
        shared = [sharing for sharing in read if sharing is not None]
        if len(shared) < len(read) or conv.output in whole:
            continue
        output = _reach(conv, *shared)
        if output.share < WORTH_SHARING:
            plan[conv.output] = output
    return plan if len(plan) > 1 and pixels not in whole else {}


def _reach(conv: Conv, source: Sharing, residual: Sharing | None = None) -> Sharing:
    """How far the drawing reaches in a conv's output, from how far it reaches in the input."""
    frames, height, width = conv.output_sizes(source.sizes)
    reached = source.reached
    margins = []
    for axis, size in enumerate((height, width)):
        kernel, stride = conv.kernel[axis + 1], conv.stride[axis + 1]
        before = conv.pads_before[axis + 1]
        reached = _least(reached, axis, size, kernel, stride, before, source.sizes[0])
        # Beyond these margins, a window lies in the middle of its input.
        behind = (size - 1) * stride + kernel - before - source.sizes[axis + 1]
        margin = source.margins[axis]
        margins.append(max(-(-(margin + pad) // stride) for pad in (before, behind)))
    # A stroke reaches an output frame once it is in the last input frame of its window.
    ahead = conv.kernel[0] - 1 - conv.pads_before[0]
    seen = np.clip(-((ahead - reached.astype(np.int32)) // conv.stride[0]), 0, frames)
    first = np.where(reached >= source.sizes[0], frames, seen).astype(np.int16)
    result = Sharing(first, (margins[0], margins[1]), (frames, height, width))
    if residual is None:
        return result
    return Sharing(
        np.minimum(first, residual.reached),
        (max(margins[0], residual.margins[0]), max(margins[1], residual.margins[1])),
        result.sizes,
    )


def _least(
    reached: NDArray[np.int16],
    axis: int,
    size: int,
    kernel: int,
    stride: int,
    before: int,
    never: int,
) -> NDArray[np.int16]:
    """The least value in each window along an axis; padding is never reached."""
    behind = max(0, (size - 1) * stride + kernel - before - reached.shape[axis])
    pads = [(0, 0), (0, 0)]
    pads[axis] = (before, behind)
    padded = np.moveaxis(np.pad(reached, pads, constant_values=never), axis, 0)
    taps = [padded[tap : tap + (size - 1) * stride + 1 : stride] for tap in range(kernel)]
    return np.moveaxis(reduce(np.minimum, taps), 0, axis)


def _pixels(size: int, background_size: int) -> NDArray[np.float32]:
    """Pixels of each tile that each background pixel stands for, along one axis.

    The rule is that of `BackgroundCoordinate` in kernels/conv/feature_map.h: the middle pixel
    stands for all pixels that are far from both borders.

    Returns:
        float32 [background_size, ceil(size / 4)].
    """
    pixels = np.arange(size)
    middle = background_size // 2
    behind = np.maximum(pixels - (size - background_size), middle)
    background = np.where(pixels < middle, pixels, behind)
    counts = np.zeros((background_size, _tiles(size)), np.float32)
    np.add.at(counts, (background, pixels // TILE), 1)
    return counts


def _tiles(pixels: int) -> int:
    return -(-pixels // TILE)
