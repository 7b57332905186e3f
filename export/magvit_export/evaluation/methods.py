"""Ways to tell classes apart, each as a function of what it is trained on and what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_export.evaluation.coordinates import (
    STEPS,
    centred,
    coordinates,
    nearest_neighbor,
    path_net,
)
from magvit_export.evaluation.labelled import Labelled, Rows, Split
from magvit_export.training.fitting import fit
from magvit_export.training.options import FitOptions
from magvit_export.training.sources import Source, take
from magvit_runtime.evaluation.class_scores import Predictions

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: What it is called.
        weights: What weights its clips went through, in words; "" where no model saw them.
        is_generated: Whether these were generated, never trained.
        predict: Trains on some trajectories and gives probabilities of others: rows of `Labelled`
            to float [tested, K], in the order of its classes.
    """

    name: str
    weights: str
    is_generated: bool
    predict: Callable[[Split], Probabilities]


def classifier_of(
    source: Source, data: Labelled, options: FitOptions, augment: int = 0, variations: int = 0
) -> Callable[[Split], Probabilities]:
    """A classifier of `magvit train classifier`, on tokens or features.

    Args:
        source: Of all clips: the views of each of N trajectories after each other, then those of
            each varied copy, the copies of each trajectory after each other.
        data: The N trajectories. Views' probabilities are averaged.
        options: How it is trained.
        augment: Copies of each trajectory that it is trained on.
        variations: Copies of each tested trajectory whose probabilities are averaged with its own.
    """
    views = data.cameras.views
    originals = len(data.truth) * views
    copied = len(source.values) // len(data.truth) - views  # Clips of a trajectory's copies.

    def clips_of(rows: Rows, copies: int) -> Rows:
        """Clips of trajectories, [rows, clips of each]: their views, and those of some copies."""
        own, varied = _runs(rows, views), originals + _runs(rows, copied)
        tables = (own.reshape(len(rows), -1), varied.reshape(len(rows), -1)[:, : copies * views])
        return np.concatenate(tables, axis=1)

    def predict(split: Split) -> Probabilities:
        train, test = clips_of(split.train, augment), clips_of(split.test, variations)
        of_clips = np.repeat(split.train, train.shape[1])
        fitted = fit(
            take([source], train.ravel()),
            [data.classes[data.truth[i]] for i in of_clips],
            options,
            groups=data.groups[of_clips],
            varied=train.ravel() >= originals,
            classes=data.classes,
        )
        found = fitted.predict_proba(take([source], test.ravel()))
        by_clip = found.reshape(*test.shape, -1).astype(np.float64)
        pooled: Probabilities = by_clip.mean(axis=1)
        return pooled

    return predict


def _runs(rows: Rows, length: int) -> Rows:
    """The rows of a table in which each row of these is as many, after each other."""
    return (rows[:, None] * length + np.arange(length)).ravel()


def coordinate_methods(data: Labelled, seed: int, steps: int = STEPS) -> tuple[Method, ...]:
    """Baselines that see coordinates and no clip.

    Args:
        data: The trajectories.
        seed: Of the net.
        steps: Of its gradient descent.
    """
    paths = coordinates(data.trajectories)
    shown = centred(paths)
    classes = len(data.classes)

    def nearest(split: Split) -> Probabilities:
        train, test = split
        found = nearest_neighbor(paths[train], data.truth[train], paths[test], classes)
        return found.astype(np.float64)

    def net(split: Split) -> Probabilities:
        train, test = split
        found = path_net(shown[train], data.truth[train], shown[test], classes, seed, steps)
        return found.astype(np.float64)

    return (
        Method("coordinates, 1-NN", "", False, nearest),
        Method("coordinates, conv net", "", False, net),
    )


def predictions(method: Method, splits: Sequence[Split]) -> Predictions:
    """What a method says of all that splits test, each time without having seen it."""
    return Predictions(
        np.concatenate([split.test for split in splits]).astype(np.int64),
        np.concatenate([method.predict(split) for split in splits]),
    )


def mean_predictions(members: Sequence[Predictions]) -> Predictions:
    """An ensemble: the mean of the probabilities of methods that were asked the same."""
    return Predictions(
        members[0].rows, np.mean([member.probabilities for member in members], axis=0)
    )
