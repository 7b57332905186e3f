"""How good probabilities of classes are, in figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

# 95 % of a normal distribution lie within so many standard deviations.
_TWO_SIDED = 1.959963984540054
# Of equal size in confidence: the usual number (Guo et al., 2017).
_CALIBRATION_BINS = 15


class ClassMeasures(msgspec.Struct, frozen=True):
    """Of one class: 0..1, and how many trajectories it has."""

    precision: float
    recall: float
    f1: float
    trajectories: int


class Measures(msgspec.Struct, frozen=True):
    """Figures of N trajectories.

    Attributes:
        trajectories: N.
        accuracy: Share that is predicted right, 0..1.
        interval: Wilson's 95 % interval of the accuracy (Wilson, 1927): what other trajectories of
            the same kind would give; it knows nothing of other splits.
        macro_f1: Mean of the classes' F1, 0..1.
        log_loss: Mean of -log of the true class's probability, in nats.
        calibration_error: Expected calibration error of the highest probability, 15 bins, 0..1
            (Guo et al., "On Calibration of Modern Neural Networks", 2017).
        classes: By name.
        confusion: Trajectories of each true class (rows) by predicted class (columns), in the
            order of `classes`.
    """

    trajectories: int
    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    log_loss: float
    calibration_error: float
    classes: dict[str, ClassMeasures]
    confusion: list[list[int]]


def measure(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], classes: Sequence[str]
) -> Measures:
    """Compares probabilities with the truth.

    Args:
        truth: [N] in 0 .. K-1.
        probabilities: [N, K], of one trajectory a row (`pooled` makes them of views).
        classes: K names.
    """
    from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

    every = np.arange(len(classes))
    predicted = probabilities.argmax(axis=1)
    right = predicted == truth
    precision, recall, f1, count = precision_recall_fscore_support(
        truth, predicted, labels=every, zero_division=0.0
    )
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    return Measures(
        trajectories=len(truth),
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(truth)),
        macro_f1=float(f1[count > 0].mean()),
        log_loss=float(log_loss(truth, exact, labels=every)),
        calibration_error=_calibration_error(right, exact.max(axis=1)),
        classes={
            name: ClassMeasures(float(precision[i]), float(recall[i]), float(f1[i]), int(count[i]))
            for i, name in enumerate(classes)
        },
        confusion=confusion_matrix(truth, predicted, labels=every).tolist(),
    )


def pooled(
    probabilities: NDArray[np.float32], groups: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Mean probabilities of the rows of each group, as `magvit classify` pools views.

    Returns:
        float32 [groups, K], and the first row of each group.
    """
    _, first, numbers = np.unique(groups, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, numbers, probabilities)
    means = sums / np.bincount(numbers)[:, None]
    return means.astype(np.float32), first


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` trials, of which `right` are right."""
    if count == 0:
        return 0.0, 1.0
    share, z2 = right / count, _TWO_SIDED**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    spread = share * (1 - share) / count + z2 / (4 * count**2)
    reach = _TWO_SIDED / (1 + z2 / count) * math.sqrt(spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _calibration_error(right: NDArray[np.bool_], sure: NDArray[np.float64]) -> float:
    """How far shares of right predictions are from what was said, over bins of how sure it was."""
    bins = np.minimum((sure * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, right - sure, _CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(sure))
