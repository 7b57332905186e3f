"""One picture of many clips, each with a caption: what it is, and what it was taken for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.hardware.packages import missing_package

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

CAPTION_HEIGHT = 28
GAP = 6
RIGHT_COLOR = (120, 220, 130)
WRONG_COLOR = (255, 120, 100)
PLAIN_COLOR = (210, 210, 210)
QUIET_COLOR = (150, 155, 165)
BACKGROUND = (24, 26, 32)
# Of an animation.
FRAME_MILLISECONDS = 100
LAST_FRAME_MILLISECONDS = 900

Color = tuple[int, int, int]
# Two lines under a clip, each a text and its color.
Caption = tuple[tuple[str, Color], tuple[str, Color]]


def write_contact_sheet(
    path: Path,
    frames: NDArray[np.uint8],
    truth: Sequence[str],
    predicted: Sequence[str],
    columns: int = 10,
) -> None:
    """Writes a PNG with one picture a clip; the caption is red where the prediction is wrong.

    Args:
        path: The PNG to write.
        frames: One frame of each clip, uint8 RGB [N, H, W, 3].
        truth: True class of each clip.
        predicted: Predicted class of each clip.
        columns: Clips a row.

    Raises:
        MissingPackageError: Pillow isn't installed.
    """
    captions: list[Caption] = [
        ((true, PLAIN_COLOR), (f"> {found}", RIGHT_COLOR if true == found else WRONG_COLOR))
        for true, found in zip(truth, predicted, strict=True)
    ]
    sheet = _sheet(frames, captions, columns)
    with atomic_path(path) as partial:
        sheet.save(partial, "PNG")


def write_preview(
    path: Path,
    clips: NDArray[np.uint8],
    ids: Sequence[str],
    labels: Sequence[str | None],
    columns: int = 6,
) -> None:
    """Writes a picture of clips' last frames, or an animation in which they play side by side.

    Args:
        path: The .png or .gif to write.
        clips: uint8 RGB [N, T, H, W, 3]; an animation shows them in gray.
        ids: Name of each clip.
        labels: Class of each clip, where it is known.
        columns: Clips a row.

    Raises:
        InputError: The file's name ends in something else.
        MissingPackageError: Pillow isn't installed.
    """
    captions: list[Caption] = [
        ((name, PLAIN_COLOR), (label or "", QUIET_COLOR))
        for name, label in zip(ids, labels, strict=True)
    ]
    columns = min(columns, len(clips))
    kind = preview_kind(path)
    if kind == "PNG":
        sheet = _sheet(clips[:, -1], captions, columns)
        with atomic_path(path) as partial:
            sheet.save(partial, kind)
        return
    # In gray, as clips of trajectories are: a palette of colors would change from frame to frame.
    first, *others = [
        _sheet(clips[:, frame], captions, columns).convert("L") for frame in range(clips.shape[1])
    ]
    durations = [FRAME_MILLISECONDS] * len(others) + [LAST_FRAME_MILLISECONDS]
    with atomic_path(path) as partial:
        first.save(partial, kind, save_all=True, append_images=others, duration=durations, loop=0)


def preview_kind(path: Path) -> str:
    """What `write_preview` makes of a file's name: "PNG" or "GIF".

    Raises:
        InputError: It ends in something else.
    """
    kinds = {".png": "PNG", ".gif": "GIF"}
    if path.suffix.lower() not in kinds:
        raise InputError(f"{path} is of an unknown kind", expected=" or ".join(kinds))
    return kinds[path.suffix.lower()]


def _sheet(frames: NDArray[np.uint8], captions: Sequence[Caption], columns: int) -> Picture:
    """Lays frames, uint8 RGB [N, H, W, 3], out with their captions."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise missing_package("PIL", "a contact sheet") from error

    count, height, width, _ = frames.shape
    rows = -(-count // columns)
    cell_width, cell_height = width + GAP, height + CAPTION_HEIGHT + GAP
    size = (columns * cell_width + GAP, rows * cell_height + GAP)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for i in range(count):
        x = GAP + i % columns * cell_width
        y = GAP + i // columns * cell_height
        sheet.paste(Image.fromarray(frames[i]), (x, y))
        for line, (text, color) in enumerate(captions[i]):
            while text and font.getlength(text) > width:
                text = text[:-1]
            draw.text((x + 2, y + height + 1 + 12 * line), text, color, font)
    return sheet
