"""Classes of trajectories of which there are several clips: the mean of what is said of each."""

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
    """Clips of which others of the same trajectory haven't come yet."""

    ids: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    probabilities: list[NDArray[np.float32]] = field(default_factory=list)


def pool_views(
    batches: Iterable[Classified], views: int, variations: int = 0
) -> Iterator[Classified]:
    """Makes one row of the clips of each trajectory.

    Its probabilities are the mean of its clips' probabilities, so that no single clip that is sure
    of a mistake decides; its class is the most probable by them.

    Args:
        batches: Clips, the views of each trajectory after each other, named by `view_id`, and then
            those of its varied copies.
        views: Views of each trajectory.
        variations: Varied copies of each. Where there is one clip of each trajectory, batches stay
            as they are.

    Yields:
        Trajectories, with their own ids.
    """
    each = views * (1 + variations)
    if each == 1:
        yield from batches
        return
    waiting = _Waiting()
    for ids, labels, classification in batches:
        waiting.ids += ids
        waiting.labels += labels
        waiting.probabilities += list(classification.probabilities)
        whole = len(waiting.ids) // each * each
        if whole:
            stacked = np.stack(waiting.probabilities[:whole])
            means = stacked.reshape(-1, each, stacked.shape[1]).mean(axis=1)
            names = tuple(trajectory_of(name, views) for name in waiting.ids[:whole:each])
            classes = classification.classes
            found = tuple(classes[best] for best in means.argmax(axis=1))
            yield names, tuple(waiting.labels[:whole:each]), Classification(found, means, classes)
            del waiting.ids[:whole], waiting.labels[:whole], waiting.probabilities[:whole]
