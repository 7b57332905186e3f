"""Figures over clips, each with the interval in which another choice of clips would put it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.types import Estimate

RESAMPLES = 2000
# Standard normal quantile of 97.5 %.
_QUANTILE = 1.959963984540054


def mean_estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of one value a clip; the interval comes from 2,000 draws with replacement.

    Args:
        values: One a clip, at least one.
        seed: Seeds the draws.
    """
    array = np.asarray(values, np.float64)
    if len(array) < 2:
        return Estimate(float(array.mean()), np.nan, np.nan)
    generator = np.random.default_rng(seed)
    # Numbers of times that each clip is drawn, not the draws: of 10,000 clips those take 160 MB.
    means = [
        generator.multinomial(len(array), np.full(len(array), 1 / len(array))) @ array / len(array)
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(array.mean()), float(low), float(high))


def jackknife_estimate(value: float, without_each: Sequence[float]) -> Estimate:
    """A figure of all clips, and the normal interval of its jackknife standard error.

    For figures that draws with replacement bias, such as the number of different codes.

    Args:
        value: The figure of all clips.
        without_each: The same figure without each of the clips.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11.
    """
    others = np.asarray(without_each, np.float64)
    count = len(others)
    if count < 2:
        return Estimate(value, np.nan, np.nan)
    error = np.sqrt((count - 1) / count * np.sum((others - others.mean()) ** 2))
    return Estimate(value, float(value - _QUANTILE * error), float(value + _QUANTILE * error))


def share_estimate(right: NDArray[np.float64], counts: NDArray[np.float64]) -> Estimate:
    """A share of clips, 0..1, and its interval over the groups that they fall into.

    The normal interval, after two clips that are right and two that are wrong have been added; so
    it says something where all are right.

    Args:
        right: float64 [G], number of right clips of each group; parts of clips count too.
        counts: float64 [G], number of its clips.

    Source: Agresti and Coull, "Approximate is better than exact for interval estimation of binomial
    proportions", 1998; of groups that aren't one clip each, with the ratio's linearisation.
    """
    value, low, high = _with_added(right, counts, (0.0, 0.0, 1.0, 1.0))
    return Estimate(value, max(0.0, low), min(1.0, high))


def difference_estimate(gains: NDArray[np.float64], counts: NDArray[np.float64]) -> Estimate:
    """A difference of two shares of the same clips, -1..1, and its interval over groups.

    The normal interval of pairs, after one clip that only the one has right and one that only the
    other has right have been added.

    Args:
        gains: float64 [G], of each group how many more clips the one has right than the other.
        counts: float64 [G], number of its clips.

    Source: Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data", 2012; groups as of `share_estimate`.
    """
    value, low, high = _with_added(gains, counts, (1.0, -1.0))
    return Estimate(value, max(-1.0, low), min(1.0, high))


def _with_added(
    sums: NDArray[np.float64], counts: NDArray[np.float64], added: tuple[float, ...]
) -> tuple[float, float, float]:
    """A ratio of sums, and the normal interval of the mean of a value a group and some added."""
    kept = counts > 0
    sums, counts = sums[kept], counts[kept]
    if not len(sums):
        return np.nan, np.nan, np.nan
    ratio = sums.sum() / counts.sum()
    values = np.append(ratio + (sums - ratio * counts) / counts.mean(), added)
    error = values.std() / np.sqrt(len(values))
    reach = _QUANTILE * error
    return float(ratio), float(values.mean() - reach), float(values.mean() + reach)
