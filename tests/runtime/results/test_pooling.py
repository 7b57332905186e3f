"""Views of a trajectory become one row, wherever batches end."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime.results.pooling import Classified, pool_views
from magvit_runtime.types import Classification

CLASSES = ("a", "b", "c")


def batches(probabilities: np.ndarray, views: int, size: int) -> list[Classified]:
    found = []
    for first in range(0, len(probabilities), size):
        part = probabilities[first : first + size]
        rows = range(first, first + len(part))
        ids = tuple(f"x@y{row // views}@{row % views}" for row in rows)
        labels = tuple(CLASSES[row // views % 3] for row in rows)
        best = tuple(CLASSES[i] for i in part.argmax(axis=1))
        found.append((ids, labels, Classification(best, part, CLASSES)))
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 100])
def test_probabilities_are_averaged(size: int) -> None:
    random = np.random.default_rng(0).random((12, 3), np.float32)
    probabilities = random / random.sum(axis=1, keepdims=True)
    rows = list(pool_views(batches(probabilities, 3, size), 3))
    assert [name for ids, _, _ in rows for name in ids] == [f"x@y{i}" for i in range(4)]
    assert [label for _, labels, _ in rows for label in labels] == ["a", "b", "c", "a"]
    means = probabilities.reshape(4, 3, 3).mean(axis=1)
    pooled = np.concatenate([found.probabilities for _, _, found in rows])
    np.testing.assert_allclose(pooled, means, rtol=1e-6)
    assert pooled.dtype == np.float32
    best = [label for _, _, found in rows for label in found.labels]
    assert best == [CLASSES[i] for i in means.argmax(axis=1)]


def test_no_single_view_that_is_sure_decides() -> None:
    """A mean of logarithms would follow the view that excludes the others' class."""
    sure = np.array([[0.7, 0.3, 0], [0.7, 0.3, 0], [0, 1, 0], [0.7, 0.3, 0]], np.float32)
    ((_, _, found),) = pool_views(batches(sure, 4, 4), 4)
    assert found.labels == ("a",)


def test_copies_are_averaged_with_their_trajectory() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 1, 1, 2, 2, 0]]
    ids = ("x", "x~1", "x~2", "y", "y~1", "y~2")
    row = (ids, ("a",) * 6, Classification(("a",) * 6, probabilities, CLASSES))
    ((names, labels, found),) = pool_views([row], 1, 2)
    assert (names, labels, found.labels) == (("x", "y"), ("a", "a"), ("b", "c"))


def test_one_view_is_left_as_it_is() -> None:
    rows = batches(np.eye(3, dtype=np.float32), 1, 2)
    assert list(pool_views(rows, 1)) == rows
