"""Nobody's rows on both sides, and classes in their shares."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_export.training.splitting import classes_of, folds_by_class, split_by_class
from magvit_runtime.errors import InputError


def test_folds_hold_out_each_row_once_and_keep_the_classes_shares() -> None:
    targets = np.repeat([0, 1, -1], [20, 10, 3])
    rows = np.flatnonzero(targets >= 0)
    folds = list(folds_by_class(targets, rows, 5, seed=0))
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == rows.tolist()
    for train, held_out in folds:
        assert np.bincount(targets[held_out]).tolist() == [4, 2]
        assert sorted([*train, *held_out]) == rows.tolist()
    again = list(folds_by_class(targets, rows, 5, seed=0))
    assert all((a[1] == b[1]).all() for a, b in zip(folds, again, strict=True))
    other = list(folds_by_class(targets, rows, 5, seed=1))
    assert any((a[1] != b[1]).any() for a, b in zip(folds, other, strict=True))


def test_views_of_a_trajectory_are_in_one_fold() -> None:
    groups = np.repeat(np.arange(20), 3)
    targets = groups % 2
    for train, held_out in folds_by_class(targets, np.arange(60), 5, 0, groups):
        assert set(groups[train]).isdisjoint(groups[held_out])
        assert np.bincount(targets[held_out]).tolist() == [6, 6]


@pytest.mark.parametrize("folds", [None, 4], ids=["split", "folds"])
def test_people_who_make_all_classes_are_on_one_side(folds: int | None) -> None:
    people = np.arange(80) % 8
    targets = np.arange(80) // 8 % 2
    rows = np.arange(80)
    parts = (
        [split_by_class(targets, rows, 0.25, 0, people)]
        if folds is None
        else list(folds_by_class(targets, rows, folds, 0, people))
    )
    for train, held_out in parts:
        assert set(people[train]).isdisjoint(people[held_out])
        assert len(held_out) == 20
        assert np.bincount(targets[held_out]).tolist() == [10, 10]


def test_more_folds_than_a_class_has_trajectories() -> None:
    with pytest.raises(InputError, match=r"4 folds, and a class of 3 trajectories"):
        list(folds_by_class(np.repeat([0, 1], [9, 3]), np.arange(12), 4, 0))


def test_more_parts_than_people() -> None:
    people, targets = np.repeat([0, 1], 6), np.arange(12) % 2
    with pytest.raises(InputError, match="too few groups to split: found 2 groups, 4 parts"):
        split_by_class(targets, np.arange(12), 0.25, 0, people)


def test_classes_that_are_known_keep_their_places() -> None:
    assert classes_of(["10", "9", None])[0] == ("9", "10")
    names, targets = classes_of(["b", None, "c"], ("a", "b"))
    assert names == ("a", "b")
    assert targets.tolist() == [1, -1, -1]
