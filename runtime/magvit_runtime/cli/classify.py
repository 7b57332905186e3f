"""`magvit classify`: trajectories, frames, a video or tokens to classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.classifier import Classifier
from magvit_runtime.cli.columns import ColumnNames
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.cli.space import (
    DEFAULT_SPACE,
    SpaceOptions,
    as_trained,
    unlike_training,
    with_space,
)
from magvit_runtime.cli.videos import cutting_for, is_video, with_video
from magvit_runtime.clips.batches import ClipBatch
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import ReadReport, StyleOptions, is_trajectory_file
from magvit_runtime.clips.video import Tail
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.results.pooling import Classified, pool_views
from magvit_runtime.results.predictions import write_predictions
from magvit_runtime.tokenizer import Tokenizer

# Labels that `--json` lists.
FOREIGN_LABELS = 1000


def classify(
    bundle: Path,
    source: Path,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    style: Annotated[StyleOptions | None, Parameter(name="*")] = None,
    columns: ColumnNames | None = None,
    space: Annotated[SpaceOptions, Parameter(name="*")] = DEFAULT_SPACE,
    tail: Tail = "drop",
    backend: str = "auto",
    threads: int | None = None,
    batch_size: int = 1,
) -> Outcome:
    """Turns trajectories, frames or a video into a table of classes and probabilities.

    Args:
        bundle: Directory of the exported model, with a trained classifier.
        source: Trajectories (CSV and its like, JSON, Parquet or npz), uint8 frames
            [N, T, H, W, 3] (.npy), or a video.
        output: CSV file to write.
        style: How trajectories are drawn; without any of it, as the clips that the classifier was
            trained on. A video must have the height and width, and is cut every `frames` frames.
        columns: Names of a text table's columns, where it has no header, such as frame,id,x,y.
        space: What the columns are, and what sees trajectories in space; without, as the classifier
            was trained. What it says of a trajectory's views is averaged.
        tail: What becomes of a video's last frames that fill no clip: drop leaves them out, pad
            repeats the last frame, short makes a shorter clip of them.
        backend: What runs the encoder; auto takes the best of this machine.
        threads: CPU threads; the backend's own choice by default.
        batch_size: Clips that run at once.
    """
    check_outputs(output, inputs=(bundle, source, space.camera))
    report, video = ReadReport(), VideoReport()
    with (
        Classifier.open(bundle, threads=threads) as classifier,
        Tokenizer.open(
            bundle, backend=backend, threads=threads, batch_size=batch_size
        ) as tokenizer,
        progress_bar("clips") as advance,
    ):
        classes = classifier.classes
        drawing = as_trained(style, space, classifier.drawing)
        is_drawn = is_trajectory_file(source)
        cutting = cutting_for(tail, tokenizer, classifier.grid)
        batches = read_clips(
            source,
            drawing.style,
            report,
            batch_size,
            cutting=cutting,
            video_report=video,
            columns=columns or (),
            positions=drawing.positions,
            cameras=drawing.cameras,
        )
        classified = _classify(batches, tokenizer, classifier, advance)
        views = drawing.cameras.views if is_drawn else 1
        counts = write_predictions(output, pool_views(classified, views))
    label = weights_label(tokenizer.bundle)
    facts = {
        "clips": counts.written,
        "output": str(output),
        "weights": label,
        "labelled": counts.known,
        "right": counts.right,
        "foreign_labels": dict(counts.foreign.most_common(FOREIGN_LABELS)),
        "problems": [asdict(problem) for problem in report.problems],
    }
    rows = "clips" if views == 1 else f"trajectories of {views} views each"
    text = f"{counts.written} {rows} -> {output}\n{tokenizer.bundle.manifest.model}, {label}"
    if counts.known:
        share = counts.right / counts.known
        text += f"\n{counts.right} of {counts.known} labelled clips predicted right ({share:.1%})"
    differences = unlike_training(drawing, classifier.drawing, report) if is_drawn else ()
    if differences:
        facts["not_as_trained"] = list(differences)
        text += f"\nthe classifier was trained on other clips: {', '.join(differences)}"
    if counts.foreign:
        text += "\n" + _foreign(counts.foreign, classes)
    if report.counts:
        text += "\n" + report.summary()
    outcome = with_space(Outcome(facts, text), drawing.cameras, report)
    return with_video(outcome, tail, video) if is_video(source) else outcome


def _foreign(labels: Counter[str], classes: tuple[str, ...]) -> str:
    """Says which labels are none of the classifier's classes."""
    shown = ", ".join(f"{label!r} ({count})" for label, count in labels.most_common(5))
    known = ", ".join(map(repr, classes[:10]))
    return (
        f"{labels.total()} clips have a label that is no class of this classifier, and count as "
        f"neither right nor wrong: {shown}{', …' if len(labels) > 5 else ''}; "
        f"its classes are {known}{', …' if len(classes) > 10 else ''}"
    )


def _classify(
    batches: Iterator[ClipBatch],
    tokenizer: Tokenizer,
    classifier: Classifier,
    advance: Callable[[int], None],
) -> Iterator[Classified]:
    for batch in batches:
        yield batch.ids, batch.labels, classifier(tokenizer(batch.frames))
        advance(len(batch.ids))
