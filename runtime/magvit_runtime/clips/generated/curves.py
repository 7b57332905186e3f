"""The kinds of generated trajectories: each a curve in a box of about -1..1, before it is turned.

A curve takes its random numbers and the shares of its way, float64 [samples] rising from 0 to 1,
and gives float64 [samples, 3]. In two dimensions its first two coordinates are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.generated.draws import Draws, cosine, sine

Array = NDArray[np.float64]
Curve = Callable[[Draws, Array], Array]

# Whole periods of each axis in one Lissajous figure.
_FREQUENCIES = ((1, 2, 3), (1, 3, 2), (2, 3, 1), (3, 4, 2))


def linear(_: Draws, way: Array) -> Array:
    """A straight line."""
    return _joined(2 * way - 1, 0 * way, 0 * way)


def circular(draws: Draws, way: Array) -> Array:
    """0.8 to 1.5 turns of a circle, either way round."""
    turns = _either_way(draws, 0.8, 1.5) * way
    return _joined(cosine(turns), sine(turns), 0 * way)


def helical(draws: Draws, way: Array) -> Array:
    """2 to 4 turns of radius 0.3 to 0.6 around its axis; in two dimensions its side view."""
    turns = _either_way(draws, 2, 4) * way + draws.uniform(0, 1)
    radius = draws.uniform(0.3, 0.6)
    return _joined(2 * way - 1, radius * sine(turns), radius * cosine(turns))


def parabolic(draws: Draws, way: Array) -> Array:
    """A throw over level ground, 0.6 to 1.4 high and 1.2 to 2 long, in the plane of x and y.

    It ends before it lands, or on the ground. It rises in -y, as y grows downward in images.
    """
    x = draws.uniform(1.2, 2.0) * way - 1
    height = draws.uniform(0.6, 1.4)
    return _joined(x, height * (x * x - 0.5), 0 * way)


def spiral(draws: Draws, way: Array) -> Array:
    """1.5 to 3 turns in a plane, from near the centre outward or back."""
    outward = way if draws.whole(0, 1) else 1 - way
    first = draws.uniform(0.05, 0.2)
    radius = first + (1 - first) * outward
    turns = _either_way(draws, 1.5, 3) * way
    return _joined(radius * cosine(turns), radius * sine(turns), 0 * way)


def lissajous(draws: Draws, way: Array) -> Array:
    """One closed Lissajous figure, of 1 to 4 periods an axis and any phases."""
    periods = _FREQUENCIES[draws.whole(0, len(_FREQUENCIES) - 1)]
    return _joined(*(sine(count * way + draws.uniform(0, 1)) for count in periods))


def random_walk(draws: Draws, way: Array) -> Array:
    """Independent normal steps, scaled to the box; the way's pace doesn't matter to it."""
    steps = draws.normals((len(way), 3))
    for before, after in pairwise(steps):
        after += before
    low, high = steps.min(axis=0), steps.max(axis=0)
    walk: Array = (2 * steps - (low + high)) / (high - low).max()
    return walk


def spline(draws: Draws, way: Array) -> Array:
    """A Catmull-Rom spline through 4 to 7 points of the box (Catmull and Rom, 1974)."""
    count = draws.whole(4, 7)
    knots = draws.uniforms(-1, 1, (count, 3))
    knots = np.concatenate([knots[:1], knots, knots[-1:]])
    piece = np.minimum((way * (count - 1)).astype(np.int64), count - 2)
    share = (way * (count - 1) - piece)[:, None]
    before, start, end, after = (knots[piece + i] for i in range(4))
    bent = 2 * before - 5 * start + 4 * end - after
    cubic = 3 * start - 3 * end + after - before
    curve: Array = start + 0.5 * share * ((end - before) + share * (bent + share * cubic))
    return curve


KINDS: Mapping[str, Curve] = {
    "linear": linear,
    "circular": circular,
    "helical": helical,
    "parabolic": parabolic,
    "spiral": spiral,
    "lissajous": lissajous,
    "random-walk": random_walk,
    "spline": spline,
}


def _joined(*axes: Array) -> Array:
    return np.stack(axes, axis=1)


def _either_way(draws: Draws, low: float, high: float) -> float:
    return draws.uniform(low, high) * (1 if draws.whole(0, 1) else -1)
