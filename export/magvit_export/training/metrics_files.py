"""What a classifier's training gave, as a file for programs and a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from magvit_export.bundle_writer import software_versions, timestamp
from magvit_export.training.classifier_training import TrainingResult
from magvit_export.training.options import TrainingOptions
from magvit_runtime.files.atomic_write import atomic_path


def write_metrics(
    path: Path, result: TrainingResult, options: TrainingOptions, facts: Mapping[str, Any]
) -> None:
    """Writes all figures as JSON.

    Args:
        path: The file.
        result: The training's.
        options: How the classifier was trained.
        facts: What else is known, such as the bundle and its weights.
    """
    content = {
        **facts,
        "classes": result.classes,
        "measured_on": "folds" if result.folds else "held-out trajectories",
        "trained_on_clips": len(result.train),
        "train_accuracy": result.train_accuracy,
        "fold_accuracies": result.folds,
        "measures": result.measures,
        "options": options,
        "made_by": software_versions(),
        "created": timestamp(),
    }
    with atomic_path(path) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def write_confusion_page(path: Path, result: TrainingResult, facts: Mapping[str, str]) -> None:
    """Writes a page with the confusion matrix and each class's figures.

    Args:
        path: The file.
        result: The training's, with measures.
        facts: What a reader needs to repeat it, by name.
    """
    # Imported here, because it needs packages of an extra.
    from magvit_runtime.reports.figures import confusion
    from magvit_runtime.reports.page import Cell, Page, Section, Table, render_page

    measures = result.measures
    assert measures is not None
    low, high = measures.interval
    rows = [
        [
            Cell(name),
            *(Cell(f"{value:.1%}", number=True) for value in (one.precision, one.recall, one.f1)),
            Cell(str(one.trajectories), number=True),
        ]
        for name, one in measures.classes.items()
    ]
    what = "folds" if result.folds else "held-out trajectories"
    sections = [
        Section(
            "Confusion",
            f"How many {what} of each class (rows) are taken for each class (columns).",
            figure=confusion(
                "confusion",
                list(measures.classes),
                measures.confusion,
                x_title="predicted",
                y_title="true",
            ),
        ),
        Section(
            "Classes",
            "Precision: share of what is taken for the class that is of it. Recall: share of the "
            "class that is found.",
            Table(("Class", "Precision", "Recall", "F1", "Trajectories"), rows),
        ),
    ]
    verdict = Cell(
        f"{measures.accuracy:.1%} right ({low:.1%} to {high:.1%}) of {measures.trajectories}"
    )
    page = Page("A classifier's figures", verdict, facts, sections)
    with atomic_path(path) as partial:
        partial.write_text(render_page(page), encoding="utf-8")
