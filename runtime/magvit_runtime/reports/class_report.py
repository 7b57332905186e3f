"""The page of `magvit evaluate classes --report`: tables, plots, and what was run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from magvit_runtime.evaluation.class_results import ClassEvaluation, Comparison
from magvit_runtime.evaluation.class_tables import (
    comparison_table,
    estimate_text,
    sizes_table,
)
from magvit_runtime.reports.figures import curves, grouped_bars
from magvit_runtime.reports.page import Cell, Page, Section, Table, render_page

_READING = (
    "Intervals are of 95 %, over trajectories. All methods were tested on the same ones, and each "
    "difference is of pairs."
)


def class_report(result: ClassEvaluation) -> str:
    """HTML of the page, in one piece.

    Args:
        result: What was measured.
    """
    best = max(
        (method for item in result.comparisons for method in item.methods),
        key=lambda method: method.scores.accuracy.value,
    )
    words = f"{best.name}: {estimate_text(best.scores.accuracy, 1, 100)} %"
    sections: list[Section] = []
    for _, some in groupby(result.comparisons, lambda item: item.data):
        group = list(some)
        if group[0].per_class is not None:
            sections.append(_sizes_section(len(sections), group))
        sections += [_section(len(sections) + i, item) for i, item in enumerate(group)]
    machine = result.machine
    return render_page(
        Page(
            title="What tokens are worth",
            verdict=Cell(f"best: {words}"),
            facts={
                "command": result.command,
                "date": result.date,
                "machine": f"{machine['cpu']}, {machine['cpus']} CPUs",
                "software": ", ".join(f"{k} {v}" for k, v in machine["versions"].items()),
                "options": ", ".join(f"{k} {v}" for k, v in result.options.items()),
                "time": f"{result.seconds:.0f} s",
            },
            sections=sections,
        )
    )


def _sizes_section(place: int, comparisons: Sequence[Comparison]) -> Section:
    table = sizes_table(comparisons)
    figure = curves(
        f"figure{place}",
        [item.per_class or 0 for item in comparisons],
        {
            rows[0].name: [100 * row.scores.accuracy.value for row in rows]
            for rows in zip(*(item.methods for item in comparisons), strict=True)
        },
        x_title="trajectories a class to train on",
        y_title="accuracy, %",
    )
    rows = [[Cell(text) for text in row] for row in table.rows]
    return Section(table.title, _READING, Table(table.columns, rows), figure)


def _section(place: int, comparison: Comparison) -> Section:
    table = comparison_table(comparison)
    figure = grouped_bars(
        f"figure{place}",
        comparison.classes,
        {
            method.name: [100 * one.recall.value for one in method.scores.classes]
            for method in comparison.methods
        },
        x_title="class",
        y_title="predicted right, %",
    )
    size = "" if comparison.per_class is None else f", {comparison.per_class} a class"
    rows = [[Cell(text) for text in row] for row in table.rows]
    text = f"{comparison.drawn}. {_READING}"
    return Section(table.title + size, text, Table(table.columns, rows), figure)
