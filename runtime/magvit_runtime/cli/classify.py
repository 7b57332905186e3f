"""`magvit classify`: trajectories, frames, a video or tokens to classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.classifier import Classifier
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.cli.videos import cutting_for, is_video, with_video
from magvit_runtime.clips.batches import ClipBatch
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import DEFAULT_STYLE, ReadReport, StyleOptions
from magvit_runtime.clips.video import Tail
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.results.predictions import write_predictions
from magvit_runtime.tokenizer import Tokenizer
from magvit_runtime.types import Classification


def classify(
    bundle: Path,
    source: Path,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    style: Annotated[StyleOptions, Parameter(name="*")] = DEFAULT_STYLE,
    tail: Tail = "drop",
    backend: str = "auto",
    threads: int | None = None,
    batch_size: int = 1,
) -> Outcome:
    """Turns trajectories, frames or a video into a table of classes and probabilities.

    Args:
        bundle: Directory of the exported model, with a trained classifier.
        source: Trajectories (.csv, .parquet, .npz), uint8 frames [N, T, H, W, 3] (.npy), or a
            video.
        output: CSV file to write.
        style: How trajectories are drawn; as for the clips that the classifier was trained on. A
            video must have the height and width, and is cut every `frames` frames.
        tail: What becomes of a video's last frames that fill no clip: drop leaves them out, pad
            repeats the last frame, short makes a shorter clip of them.
        backend: What runs the encoder; auto takes the best of this machine.
        threads: CPU threads; the backend's own choice by default.
        batch_size: Clips that run at once.
    """
    report, video = ReadReport(), VideoReport()
    with (
        Classifier.open(bundle, threads=threads) as classifier,
        Tokenizer.open(
            bundle, backend=backend, threads=threads, batch_size=batch_size
        ) as tokenizer,
        progress_bar("clips") as advance,
    ):
        cutting = cutting_for(tail, tokenizer, classifier.grid)
        batches = read_clips(source, style, report, batch_size, cutting=cutting, video_report=video)
        counts = write_predictions(output, _classify(batches, tokenizer, classifier, advance))
    clips, known, right = counts
    label = weights_label(tokenizer.bundle)
    facts = {
        "clips": clips,
        "output": str(output),
        "weights": label,
        "labelled": known,
        "right": right,
        "problems": [asdict(problem) for problem in report.problems],
    }
    text = f"{clips} clips -> {output}\n{tokenizer.bundle.manifest.model}, {label}"
    if known:
        text += f"\n{right} of {known} labelled clips predicted right ({right / known:.1%})"
    if report.counts:
        text += "\n" + report.summary()
    outcome = Outcome(facts, text)
    return with_video(outcome, tail, video) if is_video(source) else outcome


def _classify(
    batches: Iterator[ClipBatch],
    tokenizer: Tokenizer,
    classifier: Classifier,
    advance: Callable[[int], None],
) -> Iterator[tuple[tuple[str, ...], tuple[str | None, ...], Classification]]:
    for batch in batches:
        yield batch.ids, batch.labels, classifier(tokenizer(batch.frames))
        advance(len(batch.ids))
