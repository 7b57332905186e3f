"""Scores of classes beside scikit-learn's, and their intervals beside simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import multiclass_calibration_error

from magvit_runtime.evaluation.class_scores import (
    Predictions,
    accuracy_difference,
    right_shares,
    score_classes,
)
from magvit_runtime.evaluation.estimates import difference_estimate, share_estimate
from magvit_runtime.types import Estimate

CLASSES = ("a", "b", "c")


def said(
    rng: np.random.Generator, truth: NDArray[np.int64], sharpness: float = 1.0
) -> NDArray[np.float64]:
    logits = rng.normal(0, 1, (len(truth), 3))
    logits[np.arange(len(truth)), truth] += sharpness
    powers = np.exp(logits)
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def test_figures_are_those_of_other_libraries() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 200, p=(0.6, 0.3, 0.1))
    probabilities = said(rng, truth)
    order = rng.permutation(200)  # In whatever order folds bring them.
    found = score_classes(Predictions(order, probabilities[order]), truth, np.arange(200), CLASSES)
    predicted = probabilities.argmax(axis=1)
    assert found.accuracy.value == pytest.approx(sk.accuracy_score(truth, predicted))
    assert found.macro_f1.value == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    assert found.log_loss.value == pytest.approx(sk.log_loss(truth, probabilities))
    assert found.brier.value == pytest.approx(
        np.square(probabilities - np.eye(3)[truth]).sum(axis=1).mean()
    )
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(truth), 3, n_bins=15
    )
    assert found.calibration_error.value == pytest.approx(expected.item(), abs=1e-6)
    assert np.array_equal(found.confusion, sk.confusion_matrix(truth, predicted))
    recalls = sk.recall_score(truth, predicted, average=None)
    precisions = sk.precision_score(truth, predicted, average=None)
    for one, recall, precision in zip(found.classes, recalls, precisions, strict=True):
        assert one.recall.value == pytest.approx(recall)
        assert one.precision == pytest.approx(precision)
    assert [one.clips for one in found.classes] == np.bincount(truth).tolist()


def test_a_clip_that_was_predicted_often_counts_once() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([0, 1, 2, 0, 1, 2])
    probabilities = said(rng, truth, 0.3)
    once = Predictions(np.arange(6), probabilities)
    thrice = Predictions(np.tile(np.arange(6), 3), np.tile(probabilities, (3, 1)))
    uneven = Predictions(np.array([0, 1, 2, 3, 4, 5, 5]), probabilities[[0, 1, 2, 3, 4, 5, 5]])
    expected, *others = (
        score_classes(each, truth, np.arange(6), CLASSES) for each in (once, thrice, uneven)
    )
    for other in others:
        assert other.clips == 6
        for name in ("accuracy", "macro_f1", "calibration_error", "brier", "log_loss"):
            a, b = getattr(expected, name), getattr(other, name)
            assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high), nan_ok=True)
    # Right once and wrong once is right by half.
    mixed = Predictions(np.array([0, 0]), np.array([[1.0, 0, 0], [0, 1.0, 0]]))
    assert right_shares(mixed, truth)[0].tolist() == [0.5]


def test_a_class_that_was_called_impossible_costs_no_infinite_loss() -> None:
    sure = Predictions(np.arange(2), np.eye(3)[[0, 1]])
    found = score_classes(sure, np.array([0, 2]), np.arange(2), CLASSES)
    assert found.log_loss.value == pytest.approx(-math.log(1e-6) / 2)
    assert math.isnan(found.classes[2].precision)


def covers(estimate: Estimate, value: float) -> bool:
    return estimate.low <= value <= estimate.high


@pytest.mark.parametrize(("share", "count"), [(0.5, 40), (0.93, 330), (0.97, 60)])
def test_intervals_of_shares_hold_the_truth_as_often_as_they_say(share: float, count: int) -> None:
    rng = np.random.default_rng(2)
    ones = np.ones(count)
    held = np.mean(
        [covers(share_estimate(rng.binomial(1, share, count), ones), share) for _ in range(2000)]
    )
    assert 0.93 <= held <= 0.985


def test_where_all_are_right_the_interval_still_says_how_little_that_is() -> None:
    few, many = (share_estimate(np.ones(n), np.ones(n)) for n in (10, 1000))
    assert few.value == many.value == few.high == 1
    assert 0.6 < few.low < 0.8
    assert many.low > 0.99


def test_intervals_know_that_clips_of_one_group_go_together() -> None:
    """Each person does all or nothing right: 300 clips of 30 people say no more than 30."""
    rng = np.random.default_rng(3)
    held, naive = [], []
    for _ in range(1000):
        people = rng.binomial(1, 0.7, 30).astype(float)
        held.append(covers(share_estimate(10 * people, np.full(30, 10.0)), 0.7))
        naive.append(covers(share_estimate(np.repeat(people, 10), np.ones(300)), 0.7))
    assert np.mean(held) >= 0.93
    assert np.mean(naive) < 0.6


def test_intervals_of_differences_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    held = []
    for _ in range(2000):
        # 5 % only the one has right, 2 % only the other.
        gains = rng.choice((1.0, -1.0, 0.0), 200, p=(0.05, 0.02, 0.93))
        held.append(covers(difference_estimate(gains, np.ones(200)), 0.03))
    assert 0.93 <= np.mean(held) <= 0.985


def test_a_difference_is_of_pairs() -> None:
    """Both fail on the same hard clips, so that few clips show the small difference."""
    truth = np.zeros(200, np.int64)
    hard, helped = np.arange(200) < 80, np.arange(200) < 20
    wrong, right = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    one = Predictions(np.arange(200), np.where((hard & ~helped)[:, None], wrong, right))
    other = Predictions(np.arange(200)[::-1], np.where(hard[::-1, None], wrong, right))
    found = accuracy_difference(one, other, truth, np.arange(200))
    assert found.value == pytest.approx(0.1)
    assert found.low > 0.05
    # Without pairs, the two intervals overlap.
    scores = [score_classes(each, truth, np.arange(200), CLASSES) for each in (one, other)]
    assert scores[0].accuracy.overlaps(scores[1].accuracy)
    with pytest.raises(ValueError, match="same clips"):
        accuracy_difference(Predictions(np.arange(2), one.probabilities[:2]), other, truth, truth)


def test_the_jackknife_of_macro_f1_has_the_spread_of_other_samples() -> None:
    rng = np.random.default_rng(5)
    values, reaches = [], []
    for _ in range(150):
        truth = rng.choice(3, 150, p=(0.5, 0.3, 0.2))
        found = score_classes(
            Predictions(np.arange(150), said(rng, truth, 1.5)), truth, np.arange(150), CLASSES
        ).macro_f1
        values.append(found.value)
        reaches.append((found.high - found.low) / 2)
    assert np.mean(reaches) == pytest.approx(1.96 * np.std(values), rel=0.2)
