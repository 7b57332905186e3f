"""Intervals over clips, beside what theory and known data say."""

import math

import numpy as np
import pytest

from magvit_runtime.evaluation.estimates import jackknife_estimate, mean_estimate


def test_the_interval_of_a_mean_is_that_of_normal_theory() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    estimate = mean_estimate(values)
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_one_clip_says_nothing_of_others() -> None:
    for estimate in (mean_estimate([2.0]), jackknife_estimate(2.0, [1.0])):
        assert estimate.value == 2
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)


def test_the_jackknife_of_a_mean_has_its_standard_error() -> None:
    values = np.random.default_rng(2).normal(0, 1, 50)
    without = [(values.sum() - value) / 49 for value in values]
    estimate = jackknife_estimate(float(values.mean()), without)
    error = values.std(ddof=1) / math.sqrt(50)
    assert estimate.high - estimate.value == pytest.approx(1.959964 * error, rel=1e-6)
    assert estimate.value - estimate.low == pytest.approx(1.959964 * error, rel=1e-6)
