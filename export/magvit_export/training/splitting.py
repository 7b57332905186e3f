"""Splits of clips into those that are trained on and those that accuracy is measured on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError

Rows = NDArray[np.intp]


def classes_of(
    labels: Sequence[str | None], names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The names of all classes in order, and each label's place among them.

    Args:
        labels: Of the clips.
        names: Of the classes, where they are known.

    Returns:
        The names; and int64 [N], -1 for what is None or no class.
    """
    if names is None:
        names = sorted({label for label in labels if label is not None}, key=_natural)
    names = tuple(names)
    place: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    targets = [place.get(label, -1) for label in labels]
    return names, np.array(targets, np.int64)


def group_numbers(names: Sequence[str]) -> NDArray[np.int64]:
    """A number for each name, equal for equal names, in the order in which they first come."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64)


def split_by_class(
    targets: NDArray[np.int64],
    rows: Rows,
    holdout: float,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> tuple[Rows, Rows]:
    """Splits rows so that each class keeps its share; at least one row per class is trained on.

    Args:
        targets: Class of every row of the table.
        rows: Rows to split.
        holdout: Share of each class to hold out.
        seed: Chooses the split.
        groups: Of every row of the table; rows of one group, as views of one trajectory, stay on
            one side. By default each row is alone. Where groups hold several classes, as people
            do, shares are as near as whole groups allow.

    Returns:
        (train, held_out): rows in ascending order.

    Raises:
        InputError: Groups hold several classes, and there are too few of them.
    """
    groups = np.arange(len(targets)) if groups is None else groups
    if holdout and _is_mixed(targets, rows, groups):
        return next(_folds_of_groups(targets, rows, max(2, round(1 / holdout)), seed, groups))
    random = np.random.default_rng(seed)
    held_out: list[NDArray[np.int64]] = []
    for target in np.unique(targets[rows]):
        members = random.permutation(np.unique(groups[rows[targets[rows] == target]]))
        count = min(round(len(members) * holdout), len(members) - 1)
        held_out.append(members[:count])
    is_kept_out = np.isin(groups[rows], np.concatenate(held_out) if held_out else [])
    return np.sort(rows[~is_kept_out]), np.sort(rows[is_kept_out])


def folds_by_class(
    targets: NDArray[np.int64],
    rows: Rows,
    folds: int,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> Iterator[tuple[Rows, Rows]]:
    """K splits, in which each row is held out once and each class keeps its share.

    Args:
        targets: Class of every row of the table.
        rows: Rows to split.
        folds: K, from 2 on.
        seed: Chooses the splits.
        groups: As of `split_by_class`.

    Yields:
        (train, held_out): rows in ascending order.

    Raises:
        InputError: A class, or the table, has fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedKFold

    groups = np.arange(len(targets)) if groups is None else groups
    if _is_mixed(targets, rows, groups):
        yield from _folds_of_groups(targets, rows, folds, seed, groups)
        return
    members, first = np.unique(groups[rows], return_index=True)
    of_members = targets[rows[first]]
    fewest = np.unique(of_members, return_counts=True)[1].min()
    if not 2 <= folds <= fewest:
        raise InputError(
            "the number of folds doesn't fit the clips",
            found=f"{folds} folds, and a class of {fewest} trajectories",
            expected=f"2 to {fewest} folds",
            mend="fewer folds, or more trajectories of each class",
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for _, held_out in splitter.split(members, of_members):
        is_kept_out = np.isin(groups[rows], members[held_out])
        yield np.sort(rows[~is_kept_out]), np.sort(rows[is_kept_out])


def _folds_of_groups(
    targets: NDArray[np.int64], rows: Rows, folds: int, seed: int, groups: NDArray[np.int64]
) -> Iterator[tuple[Rows, Rows]]:
    """Splits of groups that hold several classes each."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = len(np.unique(groups[rows]))
    if not 2 <= folds <= count:
        raise InputError(
            "there are too few groups to split",
            found=f"{count} groups, {folds} parts",
            expected=f"2 to {count} parts",
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, held_out in splitter.split(rows, targets[rows], groups[rows]):
        yield np.sort(rows[train]), np.sort(rows[held_out])


def _is_mixed(targets: NDArray[np.int64], rows: Rows, groups: NDArray[np.int64]) -> bool:
    """Whether a group has rows of several classes."""
    pairs = np.unique(np.stack([groups[rows], targets[rows]]), axis=1)
    return int(pairs.shape[1]) > len(np.unique(pairs[0]))


def _natural(label: str) -> tuple[int, str]:
    """Orders numbers by value, before words."""
    return (int(label), "") if label.isdecimal() else (2**62, label)
