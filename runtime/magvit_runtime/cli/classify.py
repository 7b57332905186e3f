"""`magvit classify`: trajectories, frames, a video or tokens to classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.classifier import CLASSIFIER
from magvit_runtime.cli.classify_folder import Asked, classify_folder
from magvit_runtime.cli.classify_way import Way, WayOption, clip_shape, open_way
from magvit_runtime.cli.columns import ColumnNames
from magvit_runtime.cli.folder_runs import DEFAULT_RUN, RunOptions, refuse_run
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import BundleArgument, OutputPlace, PlaceArgument, is_run
from magvit_runtime.cli.predicted import FOREIGN_LABELS, foreign_labels, share_right
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.cli.space import (
    DEFAULT_SPACE,
    SpaceOptions,
    as_trained,
    check_space,
    refuse_variations,
    unlike_training,
    with_space,
)
from magvit_runtime.cli.videos import cutting_for, is_video, with_video
from magvit_runtime.clips.batches import ClipBatch
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import ReadReport, StyleOptions, is_trajectory_file
from magvit_runtime.clips.variation import own_rows
from magvit_runtime.clips.video import Tail
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.errors import InputError
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.reports import PACKAGES_OF_CLIPS, check_report_packages
from magvit_runtime.results.pooling import Classified, pool_views
from magvit_runtime.results.predictions import write_predictions

if TYPE_CHECKING:
    from magvit_runtime.reports.classification_page import ClassificationPage


def classify(
    bundle: BundleArgument,
    source: PlaceArgument,
    *,
    output: OutputPlace,
    report: Path | None = None,
    style: Annotated[StyleOptions | None, Parameter(name="*")] = None,
    columns: ColumnNames | None = None,
    space: Annotated[SpaceOptions, Parameter(name="*")] = DEFAULT_SPACE,
    variations: int = 0,
    tail: Tail = "drop",
    way: WayOption = "auto",
    backend: str = "auto",
    threads: int | None = None,
    batch_size: int = 1,
    run: Annotated[RunOptions, Parameter(name="*")] = DEFAULT_RUN,
) -> Outcome:
    """Turns trajectories, frames or a video into a table of classes and probabilities.

    Args:
        bundle: Directory of the exported model, with a trained classifier; or
            hf://OWNER/NAME@REVISION on the hub.
        source: Trajectories (CSV and its like, JSON, Parquet or npz), uint8 frames
            [N, T, H, W, 3] (.npy), or a video; or, for a folder of predictions, a folder of these
            or the address of one, as s3://bucket/folder.
        output: CSV file to write. Or a folder, or the address of one: Parquet files in it take the
            predictions part by part, so that a run which is stopped can go on.
        report: HTML page to write besides: each clip plays beside its class and probabilities, and
            a filter picks classes and mistakes. It opens from disk, without a network.
        style: How trajectories are drawn; without any of it, as the clips that the classifier was
            trained on. A video must have the height and width, and is cut every `frames` frames.
        columns: Names of a text table's columns, where it has no header, such as frame,id,x,y.
        space: What the columns are, and what sees trajectories in space; without, as the classifier
            was trained. What it says of a trajectory's views is averaged.
        variations: Varied copies of each trajectory that are classified too: turned, scaled,
            sheared, shaken and at another pace, each a little. What is said of all is averaged,
            which takes as much longer, and makes fewer mistakes (test-time augmentation).
        tail: What becomes of a video's last frames that fill no clip: drop leaves them out, pad
            repeats the last frame, short makes a shorter clip of them.
        way: One graph from clips to classes (fused), or the encoder and then the classifier
            (tokens). They give the same; auto takes the one graph where the bundle has it, it takes
            these clips, and what runs the encoder here runs it too.
        backend: What runs the encoder; auto takes the best of this machine.
        threads: CPU threads; the backend's own choice by default.
        batch_size: Clips that run at once.
        run: How a folder is written.
    """
    if is_run(source, output):
        if report is not None:
            raise InputError("a folder has no report", mend="leave --report out, or write a .csv")
        if way == "fused":
            raise InputError("a folder is classified by tokens", mend="leave --way out")
        asked = Asked(backend, threads, batch_size, style, columns or (), space, tail, variations)
        return classify_folder(bundle, source, output, run, asked)
    refuse_run(run, DEFAULT_RUN)
    source, output = Path(source), Path(output)
    check_space(source, space)
    if not is_trajectory_file(source):
        refuse_variations(source, variations)
    check_outputs(output, report, inputs=(bundle, source, space.camera))
    if report is not None:
        check_report_packages(PACKAGES_OF_CLIPS)
    read, video = ReadReport(), VideoReport()
    opened = open_bundle(bundle)
    head = opened.manifest.heads.get(CLASSIFIER)
    trained = None if head is None else head.drawing
    drawing = as_trained(style, space, trained)
    look = drawing.style
    shape = clip_shape(source, look.frames, look.height, look.width)
    with (
        open_way(
            opened, way, shape, backend=backend, threads=threads, batch_size=batch_size
        ) as chosen,
        progress_bar("clips") as advance,
    ):
        classes = chosen.classes
        is_drawn = is_trajectory_file(source)
        cutting = cutting_for(tail, chosen.model, chosen.grid)
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
            variations=variations,
        )
        views = drawing.cameras.views if is_drawn else 1
        page = None if report is None else _page(views)
        classified = _classify(batches, chosen, page, views, variations, advance)
        counts = write_predictions(output, _shown(pool_views(classified, views, variations), page))
        went = chosen.description
    label = weights_label(opened)
    facts = {
        "clips": counts.written,
        "output": str(output),
        "weights": label,
        "way": chosen.name,
        "why_tokens": chosen.why_tokens or None,
        "labelled": counts.known,
        "right": counts.right,
        "foreign_labels": dict(counts.foreign.most_common(FOREIGN_LABELS)),
        "problems": [asdict(problem) for problem in read.problems],
    }
    rows = "clips" if views == 1 else f"trajectories of {views} views each"
    if variations:
        facts["variations"] = variations
        rows += f" and their {variations} variations each"
    text = f"{counts.written} {rows} -> {output}\n{opened.manifest.model}, {label}; {went}"
    if counts.known:
        text += f"\n{share_right(counts)}"
    differences = unlike_training(drawing, trained, read) if is_drawn else ()
    if differences:
        facts["not_as_trained"] = list(differences)
        text += f"\nthe classifier was trained on other clips: {', '.join(differences)}"
    if counts.foreign:
        text += "\n" + foreign_labels(counts.foreign, classes)
    if read.counts:
        text += "\n" + read.summary()
    if page is not None and report is not None:
        facts["report"] = str(report)
        text += f"\nreport -> {report}"
        said = {"Model": f"{opened.manifest.model}, {label}", "Clips": str(source)}
        said["Right"] = (
            share_right(counts) if counts.known else "no clip has a label of these classes"
        )
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


def _classify(
    batches: Iterator[ClipBatch],
    way: Way,
    page: ClassificationPage | None,
    views: int,
    variations: int,
    advance: Callable[[int], None],
) -> Iterator[Classified]:
    done = 0
    for batch in batches:
        if page is not None:
            own = own_rows(done, len(batch.ids), views, variations)
            page.add_clips(batch.frames[own])
        done += len(batch.ids)
        yield batch.ids, batch.labels, way.classify(batch.frames)
        advance(len(batch.ids))


def _shown(rows: Iterator[Classified], page: ClassificationPage | None) -> Iterator[Classified]:
    for row in rows:
        if page is not None:
            page.add_rows(*row)
        yield row
