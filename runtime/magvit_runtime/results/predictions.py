"""The table of predictions: one row a clip, as CSV, or as Parquet in the folder of a run."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from magvit_runtime.clips.trajectories.names import name_of
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.results.folders import Place, open_folder
from magvit_runtime.results.run_records import read_manifests
from magvit_runtime.results.token_table import METADATA_KEY, import_pyarrow
from magvit_runtime.types import Classification

Rows = tuple[tuple[str, ...], tuple[str | None, ...], Classification]


@dataclass
class PredictionCounts:
    """What a table of predictions holds.

    Attributes:
        written: Clips.
        known: Clips whose label is one of the classes.
        right: Those of them that were predicted right.
        foreign: How often each other label comes; such clips are neither right nor wrong.
    """

    written: int = 0
    known: int = 0
    right: int = 0
    foreign: Counter[str] = field(default_factory=Counter)

    def add(
        self, labels: Iterable[str | None], predicted: Iterable[str], classes: Iterable[str]
    ) -> None:
        """Counts some clips.

        Args:
            labels: Their true classes, where known.
            predicted: What was predicted.
            classes: All classes.
        """
        # Tables write one class in several ways: 1 and 1.0, True and true.
        known = set(map(name_of, classes))
        for label, found in zip(labels, predicted, strict=True):
            self.written += 1
            if label in known:
                self.known += 1
                self.right += label == name_of(found)
            elif label is not None:
                self.foreign[label] += 1


def write_predictions(
    path: Path,
    batches: Iterable[Rows],
) -> PredictionCounts:
    """Writes classes of clips as they come.

    Columns: id, label (the true class, empty where unknown), predicted, and `p_CLASS`, the
    probability of each class in 0..1 with 6 digits.

    Args:
        path: The CSV file; it appears when all is written.
        batches: Ids, true labels and classes of each batch of clips.

    Raises:
        InputError: The file can't be written.
    """
    counts = PredictionCounts()
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        for ids, labels, classification in batches:
            if counts.written == 0:
                names = [f"p_{name}" for name in classification.classes]
                table.writerow(["id", "label", "predicted", *names])
            rows = zip(
                ids, labels, classification.labels, classification.probabilities, strict=True
            )
            for name, label, predicted, probabilities in rows:
                table.writerow([name, label, predicted, *(f"{p:.6f}" for p in probabilities)])
            counts.add(labels, classification.labels, classification.classes)
    return counts


class PredictionInfo(msgspec.Struct, frozen=True):
    """What the predictions of a Parquet file are.

    Attributes:
        model: Model that made the tokens.
        weights: Source and name of its weights. "seeded…": generated, never trained.
        classes: The classes, in the order of their probabilities.
    """

    model: str
    weights: str
    classes: tuple[str, ...]


def prediction_parquet(batches: Iterable[Rows], info: PredictionInfo) -> tuple[bytes, int]:
    """A Parquet file of predictions in memory, with the same bytes for the same clips.

    Columns: id, label (null where unknown), predicted, and `p_CLASS`, the probability of each class
    as float32.

    Returns:
        Its bytes and its rows.

    Raises:
        MissingPackageError: pyarrow isn't installed.
    """
    arrow = import_pyarrow()
    columns = {name: arrow.string() for name in ("id", "label", "predicted")}
    columns |= {f"p_{name}": arrow.float32() for name in info.classes}
    schema = arrow.schema(columns, {METADATA_KEY: msgspec.json.encode(info)})
    output, rows = io.BytesIO(), 0
    with arrow.parquet.ParquetWriter(output, schema, compression="zstd") as file:
        for ids, labels, found in batches:
            values = [ids, labels, found.labels, *np.asarray(found.probabilities).T]
            arrays = [arrow.array(v, kind) for v, kind in zip(values, schema.types, strict=True)]
            file.write_batch(arrow.record_batch(arrays, schema=schema))
            rows += len(ids)
    return output.getvalue(), rows


def count_predictions(place: Place) -> PredictionCounts:
    """Counts what the folder of a finished run holds.

    Raises:
        InputError: The run isn't finished, or a part is missing or not of the run.
    """
    arrow = import_pyarrow()
    folder = open_folder(place)
    counts = PredictionCounts()
    for manifest in read_manifests(folder, "predictions", "magvit classify -o FOLDER"):
        for part in manifest.parts:
            content = arrow.BufferReader(folder.read(part.name))
            table = arrow.parquet.read_table(content, columns=["label", "predicted"])
            classes = msgspec.convert(manifest.info, PredictionInfo).classes
            counts.add(table["label"].to_pylist(), table["predicted"].to_pylist(), classes)
    return counts
