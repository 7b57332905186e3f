"""Figures from the samples of a run, with their confidence intervals.

Samples are float64 [repetitions, rounds]. Samples of one repetition are close together in time and
share its disturbances. So intervals come from the scatter between repetitions: a percentile
bootstrap (Efron 1979) that draws whole repetitions. With fewer than six repetitions, no such
interval can hold the true median in 95 of 100 runs; it is then nearly the whole range of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.types import Estimate

LEVEL = 0.95
DRAWS = 2000
_SEED = 0
_UNSEEN = 0.0013


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of all samples, interpolated linearly between neighbours (NumPy's default).

    A percentile is None where there are fewer samples than `samples_needed`.
    """

    p50: float
    p90: float | None
    p95: float | None
    p99: float | None
    max: float


def percentiles(samples: NDArray[np.float64]) -> Percentiles:
    """Percentiles of samples of any shape, repetitions taken together."""

    def at(share: float) -> float | None:
        enough = samples.size >= samples_needed(share)
        return float(np.quantile(samples, share)) if enough else None

    return Percentiles(float(np.median(samples)), at(0.9), at(0.95), at(0.99), float(samples.max()))


def samples_needed(share: float) -> int:
    """Samples from which on a percentile is told: 64 for p90, 130 for p95, 662 for p99.

    With as many, at least one lies beyond the true percentile in all but 0.13 % of runs, so the
    figure isn't below it merely because nothing slow was seen.

    Args:
        share: The percentile as a share, 0.5 to below 1.
    """
    return ceil(log(_UNSEEN) / log(share))


def median_estimate(samples: NDArray[np.float64]) -> Estimate:
    """The median of all samples [repetitions, rounds].

    The interval spans the middle 95 % of the medians of 2,000 draws, each of as many repetitions
    as there are, with replacement.
    """
    drawn = samples[_draws(len(samples))]
    return _estimate(np.median(samples), np.median(drawn, axis=(1, 2)))


def ratio_estimate(samples: NDArray[np.float64], base: NDArray[np.float64]) -> Estimate:
    """The ratio of times to those of `base`: below 1 is faster.

    Both were timed in turn, so a repetition's disturbances meet both and cancel. The figure is the
    median over repetitions of (median of the repetition's samples / median of its base). The
    interval is that of the same figure over 2,000 draws.

    Args:
        samples: Seconds of the encoder in question, [repetitions, rounds].
        base: Seconds of the encoder that it is compared with, of the same run and shape.
    """
    ratios = np.median(samples, axis=1) / np.median(base, axis=1)
    return _estimate(np.median(ratios), np.median(ratios[_draws(len(ratios))], axis=1))


def _draws(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(_SEED).integers(0, count, (DRAWS, count))


def _estimate(value: np.floating, drawn: NDArray[np.float64]) -> Estimate:
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Estimate(float(value), float(low), float(high))
