"""`magvit classify -o FOLDER`: predictions part by part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from magvit_runtime.classifier import Classifier
from magvit_runtime.cli.folder_runs import RunOptions, folder_run
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.predicted import FOREIGN_LABELS, foreign_labels, share_right
from magvit_runtime.cli.space import (
    SpaceOptions,
    as_trained,
    refuse_variations,
    unlike_training,
    with_space,
)
from magvit_runtime.cli.videos import cutting_for
from magvit_runtime.clips.trajectories import StyleOptions
from magvit_runtime.clips.video import Cutting, Tail
from magvit_runtime.results.predictions import count_predictions
from magvit_runtime.runs.parts import ClipOptions
from magvit_runtime.runs.predictions import prediction_part
from magvit_runtime.runs.running import Encoder
from magvit_runtime.tokenizer import Tokenizer


@dataclass(frozen=True)
class Asked:
    """Options of `magvit classify`, by their names."""

    backend: str
    threads: int | None
    batch_size: int
    style: StyleOptions | None
    columns: tuple[str, ...]
    space: SpaceOptions
    tail: Tail
    variations: int


def classify_folder(
    bundle: Path, source: Path | str, output: Path | str, run: RunOptions, asked: Asked
) -> Outcome:
    """Writes a folder of predictions, or this job's share of it."""
    with (
        Classifier.open(bundle, threads=asked.threads) as classifier,
        Tokenizer.open(
            bundle, backend=asked.backend, threads=asked.threads, batch_size=asked.batch_size
        ) as tokenizer,
    ):
        drawing = as_trained(asked.style, asked.space, classifier.drawing)
        options = ClipOptions(
            drawing.style,
            asked.batch_size,
            cutting=Cutting(asked.tail),
            columns=asked.columns,
            positions=drawing.positions,
            cameras=drawing.cameras,
            variations=asked.variations,
        )
        work = folder_run(bundle, source, output, options, run, asked.space)
        cutting = cutting_for(asked.tail, tokenizer, classifier.grid)
        work = replace(work, options=replace(work.options, cutting=cutting))
        is_drawn = work.inputs.kind == "trajectories"
        if not is_drawn:
            refuse_variations(source, asked.variations)
        views = drawing.cameras.views if is_drawn else 1
        encoder = Encoder.of(tokenizer)
        journal = work.open_journal("predictions", encoder, {"classify": classifier.graph_sha256})
        there = len(journal.done)
        if not journal.is_finished:
            work.make(
                journal,
                lambda part: prediction_part(part, tokenizer, classifier, views, asked.variations),
            )
            work.finish(journal)
        classes, trained = classifier.classes, classifier.drawing
    items = "clips" if views == 1 else f"trajectories of {views} views each"
    outcome = work.outcome(journal, there, encoder, items)
    facts, text = outcome.facts, outcome.text
    if work.share.jobs == 1:  # Else others may be writing still.
        counts = count_predictions(output)
        facts |= {"labelled": counts.known, "right": counts.right}
        facts["foreign_labels"] = dict(counts.foreign.most_common(FOREIGN_LABELS))
        if counts.known:
            text += f"\n{share_right(counts)}"
        if counts.foreign:
            text += "\n" + foreign_labels(counts.foreign, classes)
    read = work.read_report(journal)
    differences = unlike_training(drawing, trained, read) if is_drawn else ()
    if differences:
        facts["not_as_trained"] = list(differences)
        text += f"\nthe classifier was trained on other clips: {', '.join(differences)}"
    return with_space(Outcome(facts, text), drawing.cameras, read)
