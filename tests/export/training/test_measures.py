"""Figures of classifiers, against values worked out by hand or by SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from magvit_export.training.measures import measure, pooled, wilson_interval


def test_figures_of_four_trajectories() -> None:
    truth = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.2, 0.8, 0], [0.3, 0.7, 0]], "f4")
    found = measure(truth, probabilities, ("a", "b", "c"))
    assert found.trajectories == 4
    assert found.accuracy == 0.75
    assert found.confusion == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert found.classes["a"].recall == 0.5
    assert found.classes["a"].precision == 1
    assert found.classes["b"].f1 == pytest.approx(0.8)
    assert found.classes["c"].trajectories == 0
    # A class that isn't there has no part in the mean.
    assert found.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)
    expected = -sum(map(math.log, (0.9, 0.4, 0.8, 0.7))) / 4
    assert found.log_loss == pytest.approx(expected, rel=1e-5)
    # 0.6 and 0.7 share no bin of 1/15: gaps 0.1, 0.6, 0.2 and 0.3, a quarter each.
    assert found.calibration_error == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4, abs=1e-6)


@pytest.mark.parametrize(("right", "count"), [(0, 7), (7, 7), (61, 66), (1, 3)])
def test_the_interval_is_wilson_s(right: int, count: int) -> None:
    expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right, count) == pytest.approx((expected.low, expected.high))


def test_views_are_pooled_by_their_mean() -> None:
    probabilities = np.array([[1, 0], [0.2, 0.8], [0.1, 0.9], [0, 1]], "f4")
    means, first = pooled(probabilities, np.array([5, 2, 5, 2]))
    np.testing.assert_allclose(means, [[0.1, 0.9], [0.55, 0.45]], rtol=1e-6)
    assert first.tolist() == [1, 0]
