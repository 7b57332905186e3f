"""Confidence intervals over clips, by a seeded bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """95 % confidence intervals over clips, by a seeded bootstrap.

    Clips are drawn with replacement 2,000 times; σ_z stays fixed. The intervals tell how much
    another choice of clips would change the figures, if the clips are a fair sample.

    Attributes:
        rms: Interval of the rms error, in σ_z.
        bit_flip_rate, token_change_rate: Intervals of the two rates.
    """

    rms: Interval
    bit_flip_rate: Interval
    token_change_rate: Interval


def bootstrap(clips: NDArray[np.float64], spread: float, seed: int) -> Intervals:
    """Draws clips with replacement.

    Args:
        clips: [clips, 5]: each clip's squared errors, flipped bits, bits, changed tokens and
            tokens.
        spread: σ_z, which stays fixed.
        seed: Seeds the draws.
    """
    count = len(clips)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    squares, flips, bits, changed, tokens = (draws @ clips).T
    return Intervals(
        rms=_middle(np.sqrt(squares / bits) / spread),
        bit_flip_rate=_middle(flips / bits),
        token_change_rate=_middle(changed / tokens),
    )


def _middle(values: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
