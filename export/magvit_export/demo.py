"""The main job on real trajectories, from nothing: `magvit demo`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.libras import load_libras, nearest_neighbor_accuracy, write_libras_csv
from magvit_export.training.classifier_training import train_classifier
from magvit_export.training.options import TrainingOptions
from magvit_runtime import Classifier, Tokenizer
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.clips.contact_sheet import write_contact_sheet
from magvit_runtime.clips.drawing import drawing_record
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import (
    ONE_CAMERA,
    ReadReport,
    RenderStyle,
    read_trajectories,
    render,
)
from magvit_runtime.results.predictions import write_predictions
from magvit_runtime.results.token_files import read_tokens, token_writer

SHEET_CLIPS = 60


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Attributes:
        clips: Trajectories tokenized.
        distinct_ids: Mean number of distinct token ids a clip.
        held_out: Clips that the classifier wasn't trained on.
        accuracy: Share of those predicted right, 0..1.
        nearest_neighbor: The same for the nearest neighbour in raw coordinates.
        chance: The same for guessing.
        weights: What the tokens were made with.
        seconds: Time of each step.
        files: What was written.
    """

    clips: int
    distinct_ids: float
    held_out: int
    accuracy: float
    nearest_neighbor: float
    chance: float
    weights: str
    seconds: dict[str, float]
    files: dict[str, Path]


def run_demo(
    output: Path, *, clips: int | None, advance: Callable[[int], None] = lambda _: None
) -> DemoResult:
    """Exports a small seeded model, tokenizes real trajectories, trains and runs a classifier.

    Args:
        output: Folder for everything that is written.
        clips: How many trajectories, spread over all classes; None takes all 330.
        advance: Called with the number of clips just tokenized.

    Raises:
        MagvitError: A step failed.
    """
    names = {
        "bundle": "bundle",
        "trajectories": "trajectories.csv",
        "tokens": "tokens.parquet",
        "predictions": "predictions.csv",
        "contact sheet": "contact_sheet.png",
    }
    files = {what: output / name for what, name in names.items()}
    seconds: dict[str, float] = {}
    data = load_libras().spread(clips)
    style = RenderStyle()
    output.mkdir(parents=True, exist_ok=True)
    write_libras_csv(files["trajectories"], data)

    with _timed(seconds, "export"):
        export_model(find_model("trajectory-small"), files["bundle"], weights="seeded")
    with _timed(seconds, "render and tokenize"), Tokenizer.open(files["bundle"]) as tokenizer:
        label = weights_label(tokenizer.bundle)
        report = ReadReport()
        batches = read_clips(files["trajectories"], style, report, batch_size=1)
        drawing = drawing_record(style, "auto", ONE_CAMERA, report)
        with token_writer(files["tokens"], tokenizer.bundle, drawing=drawing) as writer:
            for batch in batches:
                writer.write(batch.ids, batch.labels, tokenizer(batch.frames))
                advance(len(batch.ids))
    table = read_tokens(files["tokens"])
    with _timed(seconds, "train"):
        trained = train_classifier(files["bundle"], table, TrainingOptions())
    test = trained.held_out
    with _timed(seconds, "classify"), Classifier.open(files["bundle"]) as classifier:
        result = classifier(table.tokens[test])
        ids = tuple(table.ids[i] for i in test)
        truth = tuple(data.labels[i] for i in test)
        write_predictions(files["predictions"], [(ids, truth, result)])
    with _timed(seconds, "contact sheet"):
        trajectories = list(read_trajectories(files["trajectories"], ReadReport()))
        shown = test[np.linspace(0, len(test) - 1, min(SHEET_CLIPS, len(test))).astype(int)]
        frames = render([trajectories[i] for i in shown], style)[:, -1]
        places = np.searchsorted(test, shown)
        write_contact_sheet(
            files["contact sheet"],
            frames,
            [data.labels[i] for i in shown],
            [result.labels[place] for place in places],
        )
    return DemoResult(
        clips=len(table.ids),
        distinct_ids=float(np.mean([len(np.unique(tokens)) for tokens in table.tokens])),
        held_out=len(test),
        accuracy=float(np.mean([a == b for a, b in zip(truth, result.labels, strict=True)])),
        nearest_neighbor=nearest_neighbor_accuracy(data.xy, data.labels, trained.train, test),
        chance=1 / len(trained.classes),
        weights=label,
        seconds=seconds,
        files=files,
    )


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - start, 2)
