"""The table of predictions."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from magvit_runtime import Classification
from magvit_runtime.results.predictions import PredictionCounts, write_predictions

CLASSES = ("circle", "line, dashed")


def classification(*first: float) -> Classification:
    probabilities = np.array([(p, 1 - p) for p in first], np.float32)
    labels = tuple(CLASSES[i] for i in probabilities.argmax(axis=1))
    return Classification(labels, probabilities, CLASSES)


def test_one_row_a_clip_and_one_column_a_class(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    batches = [
        (("a", "b"), ("circle", None), classification(0.75, 0.25)),
        (('say "c"',), ("circle",), classification(0.125)),
    ]
    assert write_predictions(path, batches) == PredictionCounts(written=3, known=2, right=1)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["id", "label", "predicted", "p_circle", "p_line, dashed"],
        ["a", "circle", "circle", "0.750000", "0.250000"],
        ["b", "", "line, dashed", "0.250000", "0.750000"],
        ['say "c"', "circle", "line, dashed", "0.125000", "0.875000"],
    ]


def test_a_label_that_is_no_class_is_no_mistake(tmp_path: Path) -> None:
    batches = [(("a", "b", "c"), ("circle", "star", "star"), classification(0.75, 0.25, 0.25))]
    counts = write_predictions(tmp_path / "predictions.csv", batches)
    assert (counts.known, counts.right, counts.foreign) == (1, 1, {"star": 2})


@pytest.mark.parametrize("classes", [("0", "1"), ("0.0", "1.0"), ("0.00", "1")])
def test_classes_are_met_however_a_table_wrote_their_numbers(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    result = Classification((classes[1],), np.array([(0.25, 0.75)], np.float32), classes)
    counts = write_predictions(tmp_path / "predictions.csv", [(("a",), ("1",), result)])
    assert (counts.known, counts.right) == (1, 1)


@pytest.mark.parametrize(
    "classes", [("False", "True"), ("false", "true"), ("FALSE", "TRUE"), ("true", "True")]
)
def test_classes_are_met_however_a_table_wrote_booleans(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    result = Classification((classes[1],), np.array([(0.25, 0.75)], np.float32), classes)
    counts = write_predictions(tmp_path / "predictions.csv", [(("a",), ("True",), result)])
    assert (counts.known, counts.right, counts.foreign.total()) == (1, 1, 0)


def test_an_error_on_the_way_keeps_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("old")

    def batches() -> Iterator[tuple[tuple[str, ...], tuple[str | None, ...], Classification]]:
        yield ("a",), (None,), classification(0.5)
        raise RuntimeError("the encoder failed")

    with pytest.raises(RuntimeError, match="the encoder failed"):
        write_predictions(path, batches())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
