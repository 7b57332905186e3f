"""`magvit classify`: trajectories, frames, a video or tokens to classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    check_space,
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
from magvit_runtime.reports import PACKAGES_OF_CLIPS, check_report_packages
from magvit_runtime.results.pooling import Classified, pool_views
from magvit_runtime.results.predictions import PredictionCounts, write_predictions
from magvit_runtime.tokenizer import Tokenizer

if TYPE_CHECKING:
    from magvit_runtime.reports.classification_page import ClassificationPage

# Labels that `--json` lists.
FOREIGN_LABELS = 1000


def classify(
    bundle: Path,
    source: Path,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    report: Path | None = None,
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
        report: HTML page to write besides: each clip plays beside its class and probabilities, and
            a filter picks classes and mistakes. It opens from disk, without a network.
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
    check_space(source, space)
    check_outputs(output, report, inputs=(bundle, source, space.camera))
    if report is not None:
        check_report_packages(PACKAGES_OF_CLIPS)
    read, video = ReadReport(), VideoReport()
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
            read,
            batch_size,
            cutting=cutting,
            video_report=video,
            columns=columns or (),
            positions=drawing.positions,
            cameras=drawing.cameras,
        )
        views = drawing.cameras.views if is_drawn else 1
        page = None if report is None else _page(views)
        classified = _classify(batches, tokenizer, classifier, page, advance)
        counts = write_predictions(output, _shown(pool_views(classified, views), page))
    label = weights_label(tokenizer.bundle)
    facts = {
        "clips": counts.written,
        "output": str(output),
        "weights": label,
        "labelled": counts.known,
        "right": counts.right,
        "foreign_labels": dict(counts.foreign.most_common(FOREIGN_LABELS)),
        "problems": [asdict(problem) for problem in read.problems],
    }
    rows = "clips" if views == 1 else f"trajectories of {views} views each"
    text = f"{counts.written} {rows} -> {output}\n{tokenizer.bundle.manifest.model}, {label}"
    if counts.known:
        text += f"\n{_share(counts)}"
    differences = unlike_training(drawing, classifier.drawing, read) if is_drawn else ()
    if differences:
        facts["not_as_trained"] = list(differences)
        text += f"\nthe classifier was trained on other clips: {', '.join(differences)}"
    if counts.foreign:
        text += "\n" + _foreign(counts.foreign, classes)
    if read.counts:
        text += "\n" + read.summary()
    if page is not None and report is not None:
        facts["report"] = str(report)
        text += f"\nreport -> {report}"
        said = {"Model": f"{tokenizer.bundle.manifest.model}, {label}", "Clips": str(source)}
        said["Right"] = _share(counts) if counts.known else "no clip has a label of these classes"
        if differences:
            said["Trained on other clips"] = ", ".join(differences)
        if read.kinds["space"]:
            said["Camera"] = str(drawing.cameras.first)
        page.write(report, f"Classes of {source.name}", said)
    outcome = with_space(Outcome(facts, text), drawing.cameras, read)
    return with_video(outcome, tail, video) if is_video(source) else outcome


def _page(views: int) -> ClassificationPage:
    # Imported here, because it needs packages of an extra.
    from magvit_runtime.reports.classification_page import ClassificationPage

    return ClassificationPage(views)


def _share(counts: PredictionCounts) -> str:
    share = counts.right / counts.known
    return f"{counts.right} of {counts.known} labelled clips predicted right ({share:.1%})"


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
    page: ClassificationPage | None,
    advance: Callable[[int], None],
) -> Iterator[Classified]:
    for batch in batches:
        if page is not None:
            page.add_clips(batch.frames)
        yield batch.ids, batch.labels, classifier(tokenizer(batch.frames))
        advance(len(batch.ids))


def _shown(rows: Iterator[Classified], page: ClassificationPage | None) -> Iterator[Classified]:
    for row in rows:
        if page is not None:
            page.add_rows(*row)
        yield row
