"""Runs methods on the same splits, and scores what they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from magvit_export.evaluation.labelled import Labelled, Split, check_splits
from magvit_export.evaluation.methods import Method, mean_predictions, predictions
from magvit_runtime.errors import InputError
from magvit_runtime.evaluation.class_results import Comparison, MethodResult
from magvit_runtime.evaluation.class_scores import (
    Predictions,
    accuracy_difference,
    right_shares,
    score_classes,
)


@dataclass(frozen=True)
class _Row:
    weights: str
    is_generated: bool
    said: Predictions
    seconds: float


def compare(
    data: Labelled,
    splits: Sequence[Split],
    methods: Sequence[Method],
    *,
    split_words: str,
    per_class: int | None = None,
    ensembles: Mapping[str, Sequence[str]] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Trains and tests every method on every split, in pairs with the first.

    Args:
        data: The trajectories.
        splits: The same for all methods.
        methods: A row each; the first is what the others are set beside.
        split_words: What the splits are, in words.
        per_class: Trajectories a class that each training has, where the comparison is about that.
        ensembles: Further rows by name: the mean probabilities of the methods named.
        advance: Called with 1 after each method.

    Raises:
        InputError: There is no method, two have one name, or an ensemble names none of them.
    """
    check_splits(splits, data.groups)
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise InputError("methods need a name each", found=", ".join(names) or "none")
    rows: dict[str, _Row] = {}
    for method in methods:
        begin = time.perf_counter()
        said = predictions(method, splits)
        seconds = time.perf_counter() - begin
        rows[method.name] = _Row(method.weights, method.is_generated, said, seconds)
        advance(1)
    for name, members in (ensembles or {}).items():
        rows[name] = _ensemble(name, members, rows)
    first = rows[names[0]].said
    _, tested = right_shares(first, data.truth)
    return Comparison(
        data=data.name,
        per_class=per_class,
        drawn=_drawn(data),
        classes=list(data.classes),
        trained_on=len(splits[0].train),
        splits=split_words,
        tested=[data.trajectories[i].id for i in tested],
        methods=[
            MethodResult(
                name,
                row.weights,
                row.is_generated,
                score_classes(row.said, data.truth, data.groups, data.classes),
                None
                if row.said is first
                else accuracy_difference(row.said, first, data.truth, data.groups),
                right_shares(row.said, data.truth)[0].tolist(),
                round(row.seconds, 2),
            )
            for name, row in rows.items()
        ],
    )


def _ensemble(name: str, members: Sequence[str], rows: Mapping[str, _Row]) -> _Row:
    unknown = [member for member in members if member not in rows]
    if unknown or name in rows or not members:
        raise InputError(
            f"the ensemble {name!r} can't be made",
            found=", ".join(unknown) or "a method of its name",
            expected="names of methods: " + "; ".join(rows),
        )
    parts = [rows[member] for member in members]
    return _Row(
        ", ".join(dict.fromkeys(part.weights for part in parts if part.weights)),
        any(part.is_generated for part in parts),
        mean_predictions([part.said for part in parts]),
        sum(part.seconds for part in parts),
    )


def _drawn(data: Labelled) -> str:
    style, cameras = data.style, data.cameras
    text = f"{style.frames} frames of {style.height}×{style.width}"
    if any(item.kind == "space" for item in data.trajectories):
        text += f", seen by {cameras.views} × {cameras.first}"
    return text
