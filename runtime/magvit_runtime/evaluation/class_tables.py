"""Comparisons of methods as tables: for a terminal, and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from magvit_runtime.evaluation.class_results import Comparison, MethodResult
from magvit_runtime.text_tables import render_table, text_table
from magvit_runtime.types import Estimate

GENERATED_WEIGHTS = "generated weights"


@dataclass(frozen=True)
class TextTable:
    """A table of text: its title, names of columns, and rows of as many cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """For a terminal."""
        table = text_table("right", self.title, self.columns)
        for row in self.rows:
            table.add_row(*row)
        return render_table(table)

    def markdown(self) -> str:
        """In Markdown, the title above it."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return f"{self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables_of(comparisons: Sequence[Comparison]) -> list[TextTable]:
    """One table a comparison; those that differ in trajectories a class alone share one.

    Such a table shows accuracies side by side.
    """
    tables = []
    for _, some in groupby(comparisons, lambda item: (item.data, item.per_class is None)):
        group = list(some)
        if group[0].per_class is None:
            tables += [comparison_table(item) for item in group]
        else:
            tables.append(sizes_table(group))
    return tables


def comparison_table(comparison: Comparison) -> TextTable:
    """Every figure of each method."""
    return TextTable(
        f"{comparison.data}: {len(comparison.tested)} trajectories of {len(comparison.classes)} "
        f"classes; {comparison.splits}",
        (
            "method",
            "accuracy, %",
            "beside the first, points",
            "macro-F1, %",
            "calib. error, %",
            "Brier",
            "weights",
        ),
        tuple(
            (
                method.name,
                estimate_text(method.scores.accuracy, 1, 100),
                "" if method.difference is None else estimate_text(method.difference, 1, 100),
                estimate_text(method.scores.macro_f1, 1, 100),
                estimate_text(method.scores.calibration_error, 1, 100),
                estimate_text(method.scores.brier, 3),
                weights_text(method),
            )
            for method in comparison.methods
        ),
    )


def sizes_table(comparisons: Sequence[Comparison]) -> TextTable:
    """Accuracies of each method by the number of trajectories a class that it was trained on."""
    first = comparisons[0]
    return TextTable(
        f"{first.data}: accuracy in %, on {len(first.tested)} trajectories of "
        f"{len(first.classes)} classes, by trajectories a class to train on",
        ("method", *(str(item.per_class) for item in comparisons), "weights"),
        tuple(
            (
                rows[0].name,
                *(estimate_text(row.scores.accuracy, 1, 100) for row in rows),
                weights_text(rows[0]),
            )
            for rows in zip(*(item.methods for item in comparisons), strict=True)
        ),
    )


def weights_text(method: MethodResult) -> str:
    """What weights a method's clips went through; of generated ones, that they are."""
    return GENERATED_WEIGHTS if method.is_generated else method.weights or "none"


def estimate_text(estimate: Estimate, digits: int, scale: float = 1) -> str:
    """A figure and its interval, as "93.0 (90.1 to 95.2)"."""
    value = f"{scale * estimate.value:.{digits}f}"
    if math.isnan(estimate.low):
        return value
    return f"{value} ({scale * estimate.low:.{digits}f} to {scale * estimate.high:.{digits}f})"
