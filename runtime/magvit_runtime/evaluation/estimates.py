"""Figures over clips, each with the interval in which another choice of clips would put it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
