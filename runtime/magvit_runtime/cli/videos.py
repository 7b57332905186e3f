"""What commands that read clips say of a video, and what `--tail` asks of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from magvit_runtime.classifier import ClipClassifier
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.clips.sources import VIDEO_SUFFIXES
from magvit_runtime.clips.video import Cutting, Tail
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.errors import InputError
from magvit_runtime.features import FeatureExtractor
from magvit_runtime.tokenizer import Tokenizer


def is_video(source: Path) -> bool:
    """Whether a source of clips is read as a video."""
    return source.suffix.lower() in VIDEO_SUFFIXES


def cutting_for(
    tail: Tail, model: Tokenizer | ClipClassifier | FeatureExtractor, *shapes: Sequence[int | str]
) -> Cutting:
    """How a video is cut for what takes its clips.

    Args:
        tail: What becomes of the last frames.
        model: Takes the clips.
        shapes: What is taken besides, time first: a classifier's grid.

    Raises:
        InputError: A shorter clip is asked for, and the model takes clips of one length alone.
    """
    for size, *_ in (model.clip_shape, *filter(None, shapes)):
        if tail == "short" and isinstance(size, int):
            raise InputError(
                "this model takes no shorter clip",
                found="--tail short",
                expected=f"{size} steps of time",
                mend="pass --tail pad",
            )
    tokens = model.bundle.manifest.tokens
    return Cutting(tail) if tokens is None else Cutting(tail, tokens.temporal_stride)


def with_video(outcome: Outcome, tail: Tail, report: VideoReport) -> Outcome:
    """An outcome that also says how a video was cut and what was wrong with it."""
    facts: dict[str, Any] = {"video": {"tail": tail, **asdict(report)}}
    return Outcome(outcome.facts | facts, f"{outcome.text}\n{report.summary()}", outcome.passed)
