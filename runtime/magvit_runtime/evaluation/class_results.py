"""The file of `magvit evaluate classes`: methods compared on the same clips and splits."""

from __future__ import annotations

from typing import Any

import msgspec

from magvit_runtime.evaluation.class_scores import ClassScores
from magvit_runtime.types import Estimate

SCHEMA_VERSION = 1


class MethodResult(msgspec.Struct, frozen=True):
    """One method.

    Attributes:
        name: What it is called.
        weights: What weights its clips went through, in words; "" where no model saw them.
        is_generated: Whether these were generated, never trained.
        scores: How good its probabilities are.
        difference: Of its accuracy to that of the comparison's first method, on the same clips;
            None of the first.
        right: Of each tested trajectory, the share of its predictions that are right: 0 or 1
            without repeats. In the order of the comparison's `tested`.
        seconds: Time of all its training and predicting, without tokens or features.
    """

    name: str
    weights: str
    is_generated: bool
    scores: ClassScores
    difference: Estimate | None
    right: list[float]
    seconds: float


class Comparison(msgspec.Struct, frozen=True):
    """Methods on the same trajectories and splits.

    Attributes:
        data: What the trajectories are.
        per_class: Trajectories a class that each training had, where the comparison is about that.
        drawn: Frames, height and width of their clips, and what saw them.
        classes: K names.
        trained_on: Trajectories that each training had.
        splits: Trainings of each method, in words.
        tested: Ids of the trajectories that were predicted.
        methods: A row each.
    """

    data: str
    per_class: int | None
    drawn: str
    classes: list[str]
    trained_on: int
    splits: str
    tested: list[str]
    methods: list[MethodResult]


class ClassEvaluation(msgspec.Struct, frozen=True):
    """All that was measured by one command.

    Attributes:
        schema_version: Of this file.
        command: What was run.
        date: When, UTC.
        machine: Where: CPU, memory, versions.
        options: Of heads and splits, by name.
        seconds: Time of all.
        comparisons: A table each.
    """

    schema_version: int
    command: str
    date: str
    machine: dict[str, Any]
    options: dict[str, Any]
    seconds: float
    comparisons: list[Comparison]
