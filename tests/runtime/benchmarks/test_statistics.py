"""Percentiles and intervals against values that can be counted by hand, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime.benchmarks.statistics import (
    Percentiles,
    median_estimate,
    percentiles,
    ratio_estimate,
    samples_needed,
)
from magvit_runtime.types import Estimate


def test_percentiles_of_0_to_100_are_their_own_names() -> None:
    samples = np.random.default_rng(3).permutation(1001) / 10
    assert percentiles(samples) == Percentiles(50, 90, 95, 99, 100)


def test_percentiles_between_samples_are_interpolated() -> None:
    assert percentiles(np.array([[1.0, 2.0], [3.0, 4.0]])).p50 == 2.5
    assert percentiles(np.array([0.0, 10.0] * 50)).p50 == 5.0


@pytest.mark.parametrize(("share", "count"), [(0.5, 10), (0.9, 64), (0.95, 130), (0.99, 662)])
def test_percentiles_need_samples_beyond_them(share: float, count: int) -> None:
    """All but 0.13 % of runs of so many samples have one beyond."""
    assert samples_needed(share) == count
    assert share**count <= 0.0013 < share ** (count - 1)


def test_percentiles_of_too_few_samples_arent_told() -> None:
    few = np.arange(63.0)
    assert percentiles(few) == Percentiles(31, None, None, None, 62)
    more = percentiles(np.arange(64.0))
    assert more.p90 is not None
    assert more.p95 is None


def test_samples_without_scatter_have_intervals_without_width() -> None:
    assert median_estimate(np.full((4, 3), 2.0)) == Estimate(2.0, 2.0, 2.0)


def test_intervals_come_from_repetitions_and_not_from_rounds() -> None:
    """Each repetition holds the same scatter: however wide, it says nothing between them."""
    within = np.tile([1.0, 5.0, 9.0], (8, 1))
    assert median_estimate(within) == Estimate(5.0, 5.0, 5.0)
    assert median_estimate(within.T) == Estimate(5.0, 1.0, 9.0)


def test_a_ratio_is_free_of_what_slows_both() -> None:
    slow_down = np.array([1.0, 3.0, 2.0, 10.0, 1.5])[:, None]
    base = np.tile([2.0, 4.0, 6.0], (5, 1)) * slow_down
    ratio = ratio_estimate(base / 4, base)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.25, 0.25, 0.25))
    alone = median_estimate(base)
    assert alone.high > 2 * alone.low


def test_intervals_hold_the_true_median_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(5)
    trials = 300
    held = 0
    for _ in range(trials):
        of_repetition = random.normal(0, 1, (20, 1))
        estimate = median_estimate(10 + of_repetition + random.normal(0, 0.1, (20, 5)))
        held += estimate.low <= 10 <= estimate.high
    assert 0.90 <= held / trials <= 0.99


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Estimate(2.5, 2.0, 3.0), True),  # They touch.
        (Estimate(1.5, 1.2, 1.8), True),  # One inside the other.
        (Estimate(2.6, 2.1, 3.0), False),
        (Estimate(0.5, 0.4, 0.9), False),
    ],
)
def test_overlap(other: Estimate, expected: bool) -> None:
    one = Estimate(1.5, 1.0, 2.0)
    assert one.overlaps(other) is expected
    assert other.overlaps(one) is expected
