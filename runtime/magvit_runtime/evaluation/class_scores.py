"""How good probabilities of classes are, with intervals over clips.

Clips of one group, such as one person's, are no independent witnesses: intervals count groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.evaluation.estimates import (
    difference_estimate,
    jackknife_estimate,
    share_estimate,
)
from magvit_runtime.types import Estimate

# Of equal width in confidence; the usual number.
CALIBRATION_BINS = 15
# A class that was called impossible costs this much less than an infinite loss: -log of it.
LEAST_PROBABILITY = 1e-6

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """What a method said of clips that it wasn't trained on.

    Attributes:
        rows: int64 [M], the clip of each prediction. With repeated splits a clip has several, and
            counts as one: by their mean.
        probabilities: float64 [M, K] in 0..1, each row summing to 1.
    """

    rows: Integers
    probabilities: Floats


@dataclass(frozen=True)
class ClassScore:
    """How one class fares.

    Attributes:
        name: Of the class.
        clips: Clips of it that were predicted.
        recall: Share of these that is predicted right, 0..1.
        precision: Share of what is predicted to be of it and is, 0..1; NaN where nothing is.
        f1: Harmonic mean of both, 0..1.
    """

    name: str
    clips: int
    recall: Estimate
    precision: float
    f1: float


@dataclass(frozen=True)
class ClassScores:
    """How good probabilities are.

    Attributes:
        clips: N, the clips that were predicted.
        groups: Into which they fall; N where each is alone.
        accuracy: Share that is predicted right, 0..1. Interval of Agresti and Coull (1998).
        macro_f1: Mean of the classes' F1, 0..1. This and what follows: interval of the jackknife
            over groups, within the figure's range; none where no group makes a difference.
        calibration_error: Expected calibration error of the predicted class's probability, 0..1
            (Guo et al., 2017). Few clips bias it upward.
        brier: Mean squared distance from the true class's indicator, summed over classes, 0..2
            (Brier, 1950).
        log_loss: Mean of -log of the true class's probability, which counts as 1e-6 at least.
        classes: Each class.
        confusion: Share of each true class (rows) that is predicted as each class (columns), times
            its clips.
    """

    clips: int
    groups: int
    accuracy: Estimate
    macro_f1: Estimate
    calibration_error: Estimate
    brier: Estimate
    log_loss: Estimate
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[float, ...], ...]


def score_classes(
    predictions: Predictions, truth: Integers, groups: Integers, classes: tuple[str, ...]
) -> ClassScores:
    """Scores of a method.

    Args:
        predictions: What it said.
        truth: int64 [all clips] in 0 .. K-1.
        groups: int64 [all clips]; clips of one group go together.
        classes: K names.
    """
    rows, said = predictions.rows, predictions.probabilities
    true, predicted = truth[rows], said.argmax(axis=1)
    weights = _weights(rows, len(truth))
    seen = np.unique(groups[rows])
    group = np.searchsorted(seen, groups[rows])
    count, every = len(classes), np.arange(len(said))

    def by_group(values: Floats) -> Floats:
        """Sums over the predictions of each group, [groups, ...]."""
        sums = np.zeros((len(seen), *values.shape[1:]))
        np.add.at(sums, group, (weights * values.T).T)
        return sums

    def estimate(sums: Floats, figure: Callable[[Floats], Floats], most: float) -> Estimate:
        """A figure, 0 to `most`, of sums [groups, ...], and its jackknife over the groups."""
        total = sums.sum(axis=0)
        value, others = float(figure(total)), figure(total - sums)
        if not np.ptp(others):  # Nothing varies, so nothing says what other clips would change.
            return Estimate(value, np.nan, np.nan)
        found = jackknife_estimate(value, others.tolist())
        return Estimate(value, max(0.0, found.low), min(most, found.high))

    clips = by_group(np.ones(len(said)))
    cells = np.zeros((len(said), count, count))
    cells[every, true, predicted] = 1
    confusion = by_group(cells)
    kept = np.unique(true)

    sure = said[every, predicted]
    bins = np.minimum((sure * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = np.zeros((len(said), CALIBRATION_BINS))
    gaps[every, bins] = (predicted == true) - sure
    squares = np.square(said - np.eye(count)[true]).sum(axis=1)
    losses = -np.log(np.maximum(said[every, true], LEAST_PROBABILITY))

    def mean(values: Floats, most: float) -> Estimate:
        """The mean of a value a prediction."""
        sums = np.stack([by_group(values), clips], axis=-1)
        return estimate(sums, lambda s: s[..., 0] / s[..., 1], most)

    gap_sums = np.concatenate([by_group(gaps), clips[:, None]], axis=1)
    total = confusion.sum(axis=0)
    precision, f1 = _precision(total), _f1(total)
    return ClassScores(
        clips=len(np.unique(rows)),
        groups=len(seen),
        accuracy=share_estimate(np.trace(confusion, axis1=1, axis2=2), clips),
        macro_f1=estimate(confusion, lambda s: _f1(s)[..., kept].mean(axis=-1), 1),
        calibration_error=estimate(
            gap_sums, lambda s: np.abs(s[..., :-1]).sum(axis=-1) / s[..., -1], 1
        ),
        brier=mean(squares, 2),
        log_loss=mean(losses, np.inf),
        classes=tuple(
            ClassScore(
                name=name,
                clips=round(total[i].sum()),
                recall=share_estimate(confusion[:, i, i], confusion[:, i].sum(axis=1)),
                precision=float(precision[i]),
                f1=float(f1[i]),
            )
            for i, name in enumerate(classes)
        ),
        confusion=tuple(map(tuple, total.round(6).tolist())),
    )


def accuracy_difference(
    method: Predictions, other: Predictions, truth: Integers, groups: Integers
) -> Estimate:
    """How much more of the same clips a method predicts right than another: -1..1.

    The interval is that of Bonett and Price (2012) for pairs, over groups.

    Raises:
        ValueError: They weren't asked about the same clips.
    """
    right, asked = right_shares(method, truth)
    right_of_other, asked_of_other = right_shares(other, truth)
    if not np.array_equal(asked, asked_of_other):
        raise ValueError("a difference is of methods that were asked about the same clips")
    _, group = np.unique(groups[asked], return_inverse=True)
    return difference_estimate(
        np.bincount(group, right - right_of_other).astype(np.float64),
        np.bincount(group).astype(np.float64),
    )


def right_shares(predictions: Predictions, truth: Integers) -> tuple[Floats, Integers]:
    """Which clips are predicted right.

    Returns:
        Share of each clip's predictions that is right, float64 [N]; and which clips, int64 [N].
    """
    right = predictions.probabilities.argmax(axis=1) == truth[predictions.rows]
    asked, place = np.unique(predictions.rows, return_inverse=True)
    return np.bincount(place, right) / np.bincount(place), asked


def _weights(rows: Integers, clips: int) -> Floats:
    """Weight of each prediction, so that those of one clip count as one."""
    return 1 / np.bincount(rows, minlength=clips)[rows]


def _precision(confusion: Floats) -> Floats:
    predicted = confusion.sum(axis=-2)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    out: Floats = np.divide(
        right, predicted, out=np.full_like(predicted, np.nan), where=predicted > 0
    )
    return out


def _f1(confusion: Floats) -> Floats:
    """F1 of each class, [..., K]; 0 of one that nothing is of and nothing is predicted as."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    either = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    out: Floats = np.divide(2 * right, either, out=np.zeros_like(either), where=either > 0)
    return out
