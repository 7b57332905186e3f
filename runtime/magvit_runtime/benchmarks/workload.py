"""The clips of a benchmark: trajectories like those of users, or noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.benchmarks.results import ClipKind
from magvit_runtime.clips.samples import SMALLEST_DRAWING, drawing_style
from magvit_runtime.clips.trajectories import DEFAULT_STYLE, RenderStyle, Trajectory, render
from magvit_runtime.errors import InputError
from magvit_runtime.types import Array

POINTS = 45


@dataclass(frozen=True)
class InputSet:
    """The input of one call.

    Attributes:
        index: Its place among the input sets.
        trajectories: The trajectories that the clips are drawn from; none for noise.
        style: How they are drawn.
        clips: uint8 [N, T, H, W, 3] or [N, H, W, 3]; int32 ids where these are decoded.
    """

    index: int
    trajectories: tuple[Trajectory, ...]
    style: RenderStyle
    clips: Array

    def render(self) -> NDArray[np.uint8]:
        """Draws the clips again."""
        return render(self.trajectories, self.style)


def input_sets(
    kind: ClipKind, clip_shape: tuple[int, ...], count: int, batch: int
) -> list[InputSet]:
    """Seeded input sets; clip i is the same at every batch size.

    Args:
        kind: "drawn" clips of smooth random movements, or "noise", which has no background.
        clip_shape: [T, H, W, 3] or [H, W, 3].
        count: Sets.
        batch: Clips of each.

    Raises:
        InputError: The clips are too small to draw on.
    """
    if min(clip_shape[-3:-1]) < SMALLEST_DRAWING:
        raise InputError("clips are too small to draw on", found=list(clip_shape))
    style = drawing_style(clip_shape)
    sets = []
    for i in range(count):
        numbers = range(i * batch, (i + 1) * batch)
        if kind == "noise":
            clips = np.stack([_noise(number, clip_shape) for number in numbers])
            sets.append(InputSet(i, (), style, clips))
        else:
            movements = tuple(_movement(number) for number in numbers)
            clips = render(movements, style).reshape(batch, *clip_shape)
            sets.append(InputSet(i, movements, style, clips))
    return sets


def id_sets(grid: tuple[int, ...], vocabulary: int, count: int, batch: int) -> list[InputSet]:
    """Seeded sets of ids; clip i is the same at every batch size.

    Args:
        grid: Tokens of a clip, [t, h, w] or [h, w].
        vocabulary: Number of ids.
        count: Sets.
        batch: Clips of each.
    """
    sets = []
    for i in range(count):
        generators = map(np.random.default_rng, range(i * batch, (i + 1) * batch))
        clips = [generator.integers(0, vocabulary, grid, np.int32) for generator in generators]
        sets.append(InputSet(i, (), DEFAULT_STYLE, np.stack(clips)))
    return sets


def _movement(number: int) -> Trajectory:
    """A smooth random walk: momentum with small turns, as of a hand."""
    turns = np.random.default_rng(number).normal(0, 0.35, POINTS).cumsum()
    xy = np.stack([np.cos(turns), np.sin(turns)], axis=1).cumsum(axis=0)
    return Trajectory(f"movement {number}", xy, np.arange(POINTS, dtype=np.float64))


def _noise(number: int, clip_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, clip_shape, np.uint8)
