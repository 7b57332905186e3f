"""The table of predictions: one row a clip, as CSV."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from magvit_runtime.clips.trajectories.names import name_of
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.types import Classification


@dataclass
class PredictionCounts:
    """What a table of predictions holds.

    Attributes:
        written: Clips.
        known: Clips whose label is one of the classes.
        right: Those of them that were predicted right.
        foreign: How often each other label comes; such clips are neither right nor wrong.
    """

    written: int = 0
    known: int = 0
    right: int = 0
    foreign: Counter[str] = field(default_factory=Counter)


def write_predictions(
    path: Path,
    batches: Iterable[tuple[tuple[str, ...], tuple[str | None, ...], Classification]],
) -> PredictionCounts:
    """Writes classes of clips as they come.

    Columns: id, label (the true class, empty where unknown), predicted, and `p_CLASS`, the
    probability of each class in 0..1 with 6 digits.

    Args:
        path: The CSV file; it appears when all is written.
        batches: Ids, true labels and classes of each batch of clips.

    Raises:
        InputError: The file can't be written.
    """
    counts = PredictionCounts()
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        for ids, labels, classification in batches:
            # Tables write one class in several ways: 1 and 1.0, True and true.
            classes = set(map(name_of, classification.classes))
            if counts.written == 0:
                names = [f"p_{name}" for name in classification.classes]
                table.writerow(["id", "label", "predicted", *names])
            rows = zip(
                ids, labels, classification.labels, classification.probabilities, strict=True
            )
            for name, label, predicted, probabilities in rows:
                table.writerow([name, label, predicted, *(f"{p:.6f}" for p in probabilities)])
                if label in classes:
                    counts.known += 1
                    counts.right += label == name_of(predicted)
                elif label is not None:
                    counts.foreign[label] += 1
            counts.written += len(ids)
    return counts
