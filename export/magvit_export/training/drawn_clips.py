"""Trajectories to what a classifier learns from: drawn, varied, and tokenized."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magvit_export.training.inputs import LabelledClips
from magvit_export.training.sources import Tokens
from magvit_export.training.splitting import group_numbers
from magvit_runtime import Tokenizer
from magvit_runtime.clips.drawing import drawing_record
from magvit_runtime.clips.generated.draws import Draws
from magvit_runtime.clips.trajectories import (
    DEFAULT_STYLE,
    ONE_CAMERA,
    Cameras,
    Positions,
    ReadReport,
    StyleOptions,
    Trajectory,
    note_unseen,
    read_trajectories,
    render_batches,
)
from magvit_runtime.clips.variation import variation
from magvit_runtime.errors import InputError
from magvit_runtime.quantizers import vocabulary_size
from magvit_runtime.results.token_files import token_file_info

MOST_TRAJECTORIES = 100_000
# Varied copies where nothing else is asked for: as many as the clips still take minutes with.
USUAL_COPIES, _CLIPS_WITH_COPIES = 12, 5_000


@dataclass(frozen=True)
class Look:
    """How trajectories are read and drawn.

    Attributes:
        style: Size, length and look of the clips.
        positions: What columns are taken for.
        cameras: See trajectories in space.
        columns: Names of a text table's columns, where it has no header.
    """

    style: StyleOptions = DEFAULT_STYLE
    positions: Positions = "auto"
    cameras: Cameras = ONE_CAMERA
    columns: Sequence[str] = ()


def read_labelled(path: Path, look: Look, report: ReadReport) -> list[Trajectory]:
    """The trajectories of a file that have a label.

    Raises:
        InputError: The file can't be read, or too few have one.
    """
    stream = read_trajectories(path, report, columns=look.columns, positions=look.positions)
    every = list(islice(stream, MOST_TRAJECTORIES + 1))
    labelled = [item for item in every if item.label is not None]
    if len({item.label for item in labelled}) < 2 or len(every) > MOST_TRAJECTORIES:
        raise InputError(
            f"{path} can't be trained on",
            found=f"{len(every)} trajectories, {len(labelled)} with a label, of "
            f"{len({item.label for item in labelled})} classes",
            expected=f"labels of two classes at least, and up to {MOST_TRAJECTORIES} trajectories",
            mend="name the column of classes `label`",
        )
    return labelled


def usual_copies(clips: int) -> int:
    """Varied copies of each trajectory where nothing else is asked for: 12, or fewer, or none.

    Args:
        clips: Of the trajectories themselves, all views counted.
    """
    return max(0, min(USUAL_COPIES, _CLIPS_WITH_COPIES // max(1, clips) - 1))


def variations(trajectories: Sequence[Trajectory], copies: int, seed: int) -> Iterator[Trajectory]:
    """Varied copies of each trajectory, those of the first before those of the second."""
    for place, item in enumerate(trajectories):
        for copy in range(copies):
            yield variation(item, copy + 1, Draws(seed, place, copy))


def tokenize_trajectories(
    tokenizer: Tokenizer,
    trajectories: Sequence[Trajectory],
    look: Look,
    report: ReadReport,
    *,
    copies: int = 0,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> LabelledClips:
    """Draws and tokenizes trajectories, and varied copies of them.

    Args:
        tokenizer: What makes tokens.
        trajectories: With labels.
        look: How they are drawn.
        report: Of their file; grows by those that no camera sees.
        copies: Varied copies of each.
        seed: Chooses the variations.
        groups: Of each trajectory: those of one group, as of one person, stay together. By default
            each is alone; its views and copies stay with it.
        advance: Called with the number of clips just tokenized.
    """
    names = [item.id for item in trajectories] if groups is None else groups
    numbers = group_numbers(names)
    style, views = look.style.checked(), look.cameras.views
    every = [*trajectories, *variations(trajectories, copies, seed)]
    ids: list[str] = []
    labels: list[str | None] = []
    parts: list[NDArray[np.int32]] = []
    for batch, frames in render_batches(every, style, 1, look.cameras):
        if len(ids) < views * len(trajectories):
            note_unseen(batch, frames, style, look.cameras, report)
        ids += [item.id for item in batch]
        labels += [item.label for item in batch]
        parts.append(tokenizer(frames))
        advance(len(batch))
    tokens = np.concatenate(parts)
    originals = np.repeat(np.arange(len(trajectories)), views)
    of_copies = np.repeat(np.arange(len(trajectories)), copies * views)
    drawing = drawing_record(look.style, look.positions, look.cameras, report)
    info = token_file_info(tokenizer.bundle, tokens.shape[1:], drawing=drawing)
    return LabelledClips(
        tuple(ids),
        tuple(labels),
        (Tokens(tokens, vocabulary_size(info.quantizer)),),
        (info,),
        numbers[np.concatenate([originals, of_copies])],
        views,
        np.arange(len(ids)) >= len(originals),
    )
