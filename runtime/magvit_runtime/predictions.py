"""The table of predictions: one row a clip, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.types import Classification


def write_predictions(
    path: Path,
    batches: Iterable[tuple[tuple[str, ...], tuple[str | None, ...], Classification]],
) -> tuple[int, int, int]:
    """Writes classes of clips as they come.

    Columns: id, label (the true class, empty where unknown), predicted, and `p_CLASS`, the
    probability of each class in 0..1 with 6 digits.

    Args:
        path: The CSV file; it appears when all is written.
        batches: Ids, true labels and classes of each batch of clips.

    Returns:
        Clips written, clips with a known label, and how many of those were predicted right.

    Raises:
        InputError: The file can't be written.
    """
    written = known = right = 0
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        for ids, labels, classification in batches:
            if written == 0:
                names = [f"p_{name}" for name in classification.classes]
                table.writerow(["id", "label", "predicted", *names])
            rows = zip(
                ids, labels, classification.labels, classification.probabilities, strict=True
            )
            for name, label, predicted, probabilities in rows:
                table.writerow([name, label, predicted, *(f"{p:.6f}" for p in probabilities)])
                known += label is not None
                right += label == predicted
            written += len(ids)
    return written, known, right
