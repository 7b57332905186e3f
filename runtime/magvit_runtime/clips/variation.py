"""Movements as others would make them: turned, scaled, sheared, shaken, at another pace."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.generated.draws import Draws, sine
from magvit_runtime.clips.trajectories import Trajectory

# docs/tokenizer.md says why.
_TURN, _SCALE, _SHEAR, _SHAKE = 0.12, 0.12, 0.08, 0.004
# Of time: standard deviation of the slowest wave, as a share of the whole; others are smaller.
_WARP = 0.06
_WAVES = (1, 2, 3)
# Time never runs slower than this share of its usual pace.
_SLOWEST = 0.1


def with_variations(trajectories: Iterable[Trajectory], count: int) -> Iterator[Trajectory]:
    """Each trajectory, and after it `count` varied copies, always the same of one id."""
    for item in trajectories:
        yield item
        seed = zlib.crc32(item.id.encode(errors="surrogatepass"))
        for number in range(1, count + 1):
            yield variation(item, number, Draws(seed, number))


def own_rows(first: int, count: int, views: int, variations: int) -> NDArray[np.intp]:
    """Which of `count` clips show trajectories themselves, and no varied copy.

    Args:
        first: Clips that came before these.
        count: Clips.
        views: Clips of a trajectory, and of each copy, after each other.
        variations: Copies of each trajectory.
    """
    places = (first + np.arange(count)) % (views * (1 + variations))
    return np.flatnonzero(places < views)


def variation(item: Trajectory, number: int, draws: Draws) -> Trajectory:
    """A varied copy of a movement, at a pace of its own; its id is ID~NUMBER."""
    return replace(warped(varied(item, draws), draws), id=f"{item.id}~{number}")


def varied(item: Trajectory, draws: Draws) -> Trajectory:
    """A movement turned, scaled, sheared and shaken a little, all nearly normally distributed.

    Where it lies doesn't matter: clips show paths in their middle. In space, it is turned around
    its third axis, which is scaled too. A box's width and height are scaled.
    """
    turn, wide, high, shear = draws.normals((4,)) * (_TURN, _SCALE, _SCALE, _SHEAR)
    x, y = item.xy.T
    x, y = (1 + wide) * x + shear * y, (1 + high) * y
    turned = np.stack([x - turn * y, y + turn * x], axis=1)
    reach = max(np.ptp(item.xy[:, 0]), np.ptp(item.xy[:, 1]))
    xy = turned + _SHAKE * reach * draws.normals(turned.shape)
    if item.z is not None:
        deep, shakes = _SCALE * draws.normals((1,)), draws.normals(item.z.shape)
        return replace(item, xy=xy, z=(1 + deep) * item.z + _SHAKE * np.ptp(item.z) * shakes)
    if item.size is not None:
        return replace(item, xy=xy, size=item.size * np.abs([1 + wide, 1 + high]))
    return replace(item, xy=xy)


def warped(item: Trajectory, draws: Draws) -> Trajectory:
    """A movement along the same path in the same time, faster here and slower there."""
    shares = (item.t - item.t[0]) / (item.t[-1] - item.t[0])
    sizes = _WARP * draws.normals((len(_WAVES),))
    moved = shares.copy()
    for wave, size in zip(_WAVES, sizes, strict=True):
        moved += size / wave * sine(shares * (wave / 2))
    steps = np.diff(shares)
    paces = np.maximum(np.diff(moved), _SLOWEST * steps)
    times = item.t[0] + np.concatenate([[0.0], np.cumsum(paces)]) / paces.sum() * np.ptp(item.t)
    return replace(item, t=_rising(times, item.t))


def _rising(times: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """New times, or those of before where rounding made two of them one."""
    return times if (np.diff(times) > 0).all() else before
