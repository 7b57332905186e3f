"""The clips of each step, a function of the seed and the step alone, so a run resumes anywhere.

Half of the clips show generated trajectories of all kinds, a new one each time. The others show
recorded movements, each time turned, scaled and sheared a little.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magvit_export.libras import load_libras
from magvit_export.training.options import HOLDOUT
from magvit_export.training.splitting import classes_of, split_by_class
from magvit_runtime.clips.generated import KINDS, GenerationOptions, generate_trajectory
from magvit_runtime.clips.generated.draws import Draws
from magvit_runtime.clips.trajectories import (
    ReadReport,
    RenderStyle,
    Trajectory,
    read_trajectories,
    render,
)
from magvit_runtime.clips.variation import varied
from magvit_runtime.errors import InputError
from magvit_runtime.files.digests import file_sha256

logger = logging.getLogger(__name__)

RECORDED_SHARE = 0.5
MOST_RECORDED = 100_000
LIBRAS = "UCI Libras Movement (CC BY 4.0), each movement once"
# Numbers of generated trajectories: those to train on come before those that are held out.
_NUMBERS = 1 << 40


@dataclass(frozen=True)
class Recorded:
    """Recorded movements, split.

    Attributes:
        name: What they are.
        sha256: Digest of the file, or of the movements that are trained on.
        train: What is trained on.
        held_out: What is never trained on.
    """

    name: str
    sha256: str
    train: tuple[Trajectory, ...]
    held_out: tuple[Trajectory, ...]


def libras_split() -> Recorded:
    """The Libras movements, split as `magvit train classifier` splits their tokens by default.

    So the clips on which a classifier of these tokens is measured are ones that neither it nor the
    tokenizer was trained on.
    """
    data = load_libras()
    trajectories = [
        Trajectory(f"libras-{i:03}", xy.astype(np.float64), np.arange(float(len(xy))), label)
        for i, (xy, label) in enumerate(zip(data.xy, data.labels, strict=True))
    ]
    return _split(LIBRAS, trajectories, None)


def recorded_file(path: Path) -> Recorded:
    """The trajectories of a user's file, split in the same way; those without a label are a class.

    Raises:
        InputError: The file can't be read, or holds too few or too many.
    """
    report = ReadReport()
    trajectories = list(islice(read_trajectories(path, report), MOST_RECORDED + 1))
    if report.counts:
        logger.warning("%s: %s", path, report.summary())
    if not 4 <= len(trajectories) <= MOST_RECORDED:
        found = f"over {MOST_RECORDED}" if len(trajectories) > MOST_RECORDED else len(trajectories)
        expected = f"4 to {MOST_RECORDED}"
        raise InputError(f"{path} can't be trained on", found=found, expected=expected)
    return _split(path.name, trajectories, file_sha256(path))


def _split(name: str, trajectories: Sequence[Trajectory], sha256: str | None) -> Recorded:
    _, targets = classes_of([item.label for item in trajectories])
    rows = np.arange(len(targets))
    train, held_out = split_by_class(targets, rows, HOLDOUT, seed=0)
    trained = tuple(trajectories[i] for i in train)
    if sha256 is None:
        content = b"".join(item.xy.astype("<f8").tobytes() for item in trained)
        sha256 = hashlib.sha256(content).hexdigest()
    return Recorded(name, sha256, trained, tuple(trajectories[i] for i in held_out))


def style_of(size: int, frames: int) -> RenderStyle:
    """The usual look of clips at another size: lines as wide, and a margin in proportion."""
    usual = RenderStyle()
    room = math.ceil(usual.head_radius + 0.5)
    margin = max(room, usual.margin * size // usual.height)
    return RenderStyle(height=size, width=size, frames=frames, margin=margin)


def training_clips(
    recorded: Recorded, style: RenderStyle, *, seed: int, step: int, count: int
) -> NDArray[np.uint8]:
    """The clips of one step.

    Returns:
        uint8 [count, T, H, W, 3], the same bytes on every machine.
    """
    chosen = []
    for place in range(count):
        draws = Draws(seed, step, place)
        if draws.uniform(0, 1) < RECORDED_SHARE:
            item = recorded.train[draws.whole(0, len(recorded.train) - 1)]
            chosen.append(varied(item, draws))
        else:
            kind = list(KINDS)[draws.whole(0, len(KINDS) - 1)]
            chosen.append(_generated(kind, draws.whole(0, _NUMBERS - 1)))
    return render(chosen, style)


def held_out_clips(recorded: Recorded, count: int) -> dict[str, list[Trajectory]]:
    """About `count` trajectories a source that are never trained on, spread over their classes."""
    step = max(1, len(recorded.held_out) // count)
    generated = [
        _generated(kind, _NUMBERS + number)
        for number in range(math.ceil(count / len(KINDS)))
        for kind in KINDS
    ]
    return {"recorded": list(recorded.held_out[::step]), "generated": generated}


def _generated(kind: str, number: int) -> Trajectory:
    made = generate_trajectory(kind, number, GenerationOptions())
    return Trajectory(made.id, made.positions, made.t, made.label)
