"""The trajectories that ship with the package."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from magvit_export.training.libras import (
    CLASS_NAMES,
    load_libras,
    nearest_neighbor_accuracy,
    write_libras_csv,
)
from magvit_runtime.trajectories import ReadReport, read_trajectories


def test_each_movement_is_there_once() -> None:
    data = load_libras()
    assert data.xy.shape == (330, 45, 2)
    assert data.xy.dtype == np.float32
    assert 0 <= data.xy.min() < data.xy.max() <= 1
    assert len(np.unique(data.xy.reshape(330, -1), axis=0)) == 330
    counts = Counter(data.labels)
    assert set(counts) == set(CLASS_NAMES)
    assert min(counts.values()) >= 10


@pytest.mark.parametrize("count", [30, 60, 100])
def test_a_few_movements_are_spread_over_all_classes(count: int) -> None:
    few = load_libras().spread(count)
    assert count <= len(few.labels) < 2 * count
    assert len(few.xy) == len(few.labels)
    assert len(set(few.labels)) == 15


def test_all_movements_where_no_number_is_given() -> None:
    data = load_libras()
    assert data.spread(None).labels == data.labels
    assert data.spread(10_000).labels == data.labels


def test_the_csv_reads_back_as_trajectories(tmp_path: Path) -> None:
    data = load_libras().spread(30)
    path = tmp_path / "libras.csv"
    write_libras_csv(path, data)
    with path.open(newline="") as file:
        assert next(csv.reader(file)) == ["id", "x", "y", "label"]
    report = ReadReport()
    read = list(read_trajectories(path, report))
    assert not report.counts
    assert [item.label for item in read] == list(data.labels)
    for item, points in zip(read, data.xy, strict=True):
        np.testing.assert_array_equal(item.xy.astype(np.float32), points)


def test_nearest_neighbor_by_hand() -> None:
    places = np.array([0, 10, 1, 9, 4], np.float32)
    xy = np.stack([places, 0 * places], axis=1)[:, None]
    labels = ("left", "right", "left", "right", "right")
    train, test = np.array([0, 1]), np.array([2, 3, 4])
    # The last is nearer to "left", and so it is predicted wrong.
    assert nearest_neighbor_accuracy(xy, labels, train, test) == pytest.approx(2 / 3)
