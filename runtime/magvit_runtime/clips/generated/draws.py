"""Random numbers and sines of which every machine makes the same bits.

NumPy promises the same stream of a bit generator everywhere, but not of its distributions; and
sines differ in their last bit from one processor to the next. So all is made here by sums, products
and square roots, which IEEE 754 rounds in one way.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Uniform numbers in a sum that stands for a normal one, of variance 1 (Irwin, 1927; Hall, 1927).
_SUMMED = 12
# sin(x) = x - x³/3! + …; the term after x²³ is below 1e-20 for x ≤ π/2.
_SINE = [(-1) ** i / math.factorial(2 * i + 1) for i in range(12)]


class Draws:
    """A stream of random numbers.

    Args:
        *entropy: What it is seeded by, whole numbers from 0 on; each list has a stream of its own.
    """

    def __init__(self, *entropy: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(entropy))

    def uniform(self, low: float, high: float) -> float:
        """A number of the interval."""
        return float(low + (high - low) * self._shares(1)[0])

    def uniforms(self, low: float, high: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Numbers of the interval, float64 of the shape."""
        return low + (high - low) * self._shares(math.prod(shape)).reshape(shape)

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self._shares(1)[0] * (high - low + 1))

    def normals(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Nearly normal numbers of variance 1, never beyond ±6, float64 of the shape."""
        shares = self._shares(_SUMMED * math.prod(shape)).reshape(_SUMMED, *shape)
        total = np.zeros(shape)
        for share in shares:
            total += share
        return total - _SUMMED / 2

    def _shares(self, count: int) -> NDArray[np.float64]:
        """Numbers in 0..1, without 1."""
        raw: NDArray[np.uint64] = self._bits.random_raw(count)
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sine(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sine of angles in turns: sin(2π·turns), within 1e-15."""
    turned = turns - np.floor(turns + 0.5)  # In -1/2 .. 1/2
    folded = 0.25 - np.abs(np.abs(turned) - 0.25)  # In 0 .. 1/4, of the same sine but for its sign
    x = (2 * math.pi) * folded
    square = x * x
    total = np.full_like(x, _SINE[-1])
    for factor in reversed(_SINE[:-1]):
        total = total * square + factor
    return np.copysign(total * x, turned)


def cosine(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of angles in turns, as `sine`."""
    return sine(turns + 0.25)
