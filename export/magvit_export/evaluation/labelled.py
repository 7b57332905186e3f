"""Labelled trajectories to compare methods on, and which of them are trained on each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from magvit_export.evaluation.class_options import GENERATED, LIBRAS
from magvit_export.libras import load_libras
from magvit_export.training.drawn_clips import Look, read_labelled
from magvit_export.training.group_column import read_groups
from magvit_export.training.splitting import classes_of, folds_by_class, group_numbers
from magvit_runtime.clips.generated import GenerationOptions, generate_trajectories
from magvit_runtime.clips.trajectories import (
    ONE_CAMERA,
    Cameras,
    ReadReport,
    RenderStyle,
    Trajectory,
)
from magvit_runtime.errors import InputError

Rows = NDArray[np.intp]


class Split(NamedTuple):
    """Trajectories to train on, and others to predict: rows of `Labelled`, ascending."""

    train: Rows
    test: Rows


@dataclass(frozen=True, eq=False)
class Labelled:
    """Trajectories with their classes, and how they are drawn.

    Attributes:
        name: What they are called in tables.
        trajectories: N of them.
        classes: K names.
        truth: int64 [N] in 0 .. K-1.
        groups: int64 [N]; what is of one group is never on both sides of a split.
        style: How they are drawn.
        cameras: See those in space; each trajectory gives a clip for each.
    """

    name: str
    trajectories: tuple[Trajectory, ...]
    classes: tuple[str, ...]
    truth: NDArray[np.int64]
    groups: NDArray[np.int64]
    style: RenderStyle
    cameras: Cameras = ONE_CAMERA


def label(
    name: str,
    trajectories: Sequence[Trajectory],
    style: RenderStyle,
    cameras: Cameras = ONE_CAMERA,
    groups: NDArray[np.int64] | None = None,
) -> Labelled:
    """Puts labelled trajectories together.

    Args:
        name: What they are called.
        trajectories: N, each with a label.
        style: How they are drawn.
        cameras: See those in space.
        groups: int64 [N]; by default each is alone.

    Raises:
        InputError: They are of less than two classes.
    """
    classes, truth = classes_of([item.label for item in trajectories])
    if len(classes) < 2:
        raise InputError(f"{name} has too few classes to tell apart", found=", ".join(classes))
    groups = np.arange(len(trajectories)) if groups is None else groups
    return Labelled(name, tuple(trajectories), classes, truth, groups, style, cameras)


def libras(style: RenderStyle) -> Labelled:
    """The 330 distinct movements of UCI Libras, 15 classes."""
    data = load_libras()
    t = np.arange(data.xy.shape[1], dtype=np.float64)
    return label(
        LIBRAS,
        [
            Trajectory(f"libras-{i:03}", xy.astype(np.float64), t, name)
            for i, (xy, name) in enumerate(zip(data.xy, data.labels, strict=True))
        ],
        style,
    )


def generated(options: GenerationOptions, style: RenderStyle, cameras: Cameras) -> Labelled:
    """Generated kinds, `options.count` of each, one of each in turn."""
    made = generate_trajectories(options)
    named = f"{GENERATED}, {options.dimensions}-D, noise {options.noise:g}"
    return label(
        named,
        [
            Trajectory(
                item.id,
                np.ascontiguousarray(item.positions[:, :2]),
                item.t,
                item.label,
                z=np.ascontiguousarray(item.positions[:, 2]) if options.dimensions == 3 else None,
            )
            for item in made
        ],
        style,
        cameras,
    )


def labelled_file(path: Path, look: Look, report: ReadReport, group: str | None = None) -> Labelled:
    """The labelled trajectories of a user's file; equal ones go together into one group.

    Args:
        path: The file, as `read_trajectories` takes it.
        look: How it is read and drawn.
        report: What was wrong in the file, filled here.
        group: Column whose values, as of people, are never on both sides of a split.

    Raises:
        InputError: The file can't be read, or has too few classes.
    """
    found = read_labelled(path, look, report)
    groups = equal_together(found)
    if group is not None:
        groups = group_numbers(read_groups(path, group, [item.id for item in found]))
    return label(path.name, found, look.style.checked(), look.cameras, groups)


def equal_together(trajectories: Sequence[Trajectory]) -> NDArray[np.int64]:
    """A group for each different path: a copy of a training path is no test."""
    places: dict[bytes, int] = {}
    return np.array(
        [
            places.setdefault(
                b"".join(
                    part.tobytes()
                    for part in (item.xy, item.t, item.z, item.size)
                    if part is not None
                ),
                len(places),
            )
            for item in trajectories
        ],
        np.int64,
    )


def folds(data: Labelled, count: int, repeats: int, seed: int) -> tuple[Split, ...]:
    """Stratified folds of all trajectories, by groups, each repeat with a seed of its own.

    Raises:
        InputError: A class has fewer groups than there are folds, or there is nothing to do.
    """
    if repeats < 1:
        raise InputError("`repeats` is out of range", found=repeats, expected="1 or more")
    rows = np.arange(len(data.truth))
    return tuple(
        Split(train, test)
        for repeat in range(repeats)
        for train, test in folds_by_class(data.truth, rows, count, seed + repeat, data.groups)
    )


def growing(data: Labelled, sizes: Sequence[int], test: int, sets: int) -> dict[int, list[Split]]:
    """Training sets of several sizes, all tested on the same trajectories.

    Args:
        data: Generated trajectories: `max(sizes) + test` of each class, one of each in turn.
        sizes: Trajectories a class to train on.
        test: Trajectories a class, the last, to test on.
        sets: Training sets of each size at most; as many as there are that share nothing.

    Returns:
        Splits by size.
    """
    kinds = len(data.classes)
    total = len(data.truth) // kinds
    tested = np.arange((total - test) * kinds, total * kinds)
    return {
        size: [
            Split(np.arange(i * size * kinds, (i + 1) * size * kinds), tested)
            for i in range(min(sets, (total - test) // size))
        ]
        for size in sizes
    }


def check_splits(splits: Sequence[Split], groups: NDArray[np.int64]) -> None:
    """Refuses splits that train on what they test.

    Raises:
        ValueError: A group is on both sides.
    """
    for train, test in splits:
        both = np.intersect1d(groups[train], groups[test])
        if len(both):
            raise ValueError(f"{len(both)} groups are trained on and tested")
