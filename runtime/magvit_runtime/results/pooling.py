"""Classes of trajectories that several cameras saw: the mean of what is said of each view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.camera import trajectory_of
from magvit_runtime.types import Classification

# Ids, true labels and classes of some clips.
Classified = tuple[tuple[str, ...], tuple[str | None, ...], Classification]


@dataclass
class _Waiting:
    """Views of which others of the same trajectory haven't come yet."""

    ids: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    probabilities: list[NDArray[np.float32]] = field(default_factory=list)


def pool_views(batches: Iterable[Classified], views: int) -> Iterator[Classified]:
    """Makes one row of the views of each trajectory.

    Its probabilities are the mean of its views' probabilities, so that no single view that is sure
    of a mistake decides; its class is the most probable by them.

    Args:
        batches: Clips, the views of each trajectory after each other, named by `view_id`.
        views: Views of each trajectory; where it is 1, batches stay as they are.

    Yields:
        Trajectories, with their own ids.
    """
    if views == 1:
        yield from batches
        return
    waiting = _Waiting()
    for ids, labels, classification in batches:
        waiting.ids += ids
        waiting.labels += labels
        waiting.probabilities += list(classification.probabilities)
        whole = len(waiting.ids) // views * views
        if whole:
            stacked = np.stack(waiting.probabilities[:whole])
            means = stacked.reshape(-1, views, stacked.shape[1]).mean(axis=1)
            names = tuple(trajectory_of(name, views) for name in waiting.ids[:whole:views])
            classes = classification.classes
            found = tuple(classes[best] for best in means.argmax(axis=1))
            yield names, tuple(waiting.labels[:whole:views]), Classification(found, means, classes)
            del waiting.ids[:whole], waiting.labels[:whole], waiting.probabilities[:whole]
