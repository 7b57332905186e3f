"""One picture of many clips, each with its true and its predicted class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import BackendError
from magvit_runtime.files.atomic_write import atomic_path

CAPTION_HEIGHT = 28
GAP = 6
RIGHT_COLOR = (120, 220, 130)
WRONG_COLOR = (255, 120, 100)
BACKGROUND = (24, 26, 32)


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
        BackendError: Pillow isn't installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise BackendError(
            "pictures need Pillow", mend="pip install 'magvit-runtime[data]'"
        ) from error

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
        color = RIGHT_COLOR if truth[i] == predicted[i] else WRONG_COLOR
        draw.text((x + 2, y + height + 1), truth[i], (210, 210, 210), font)
        draw.text((x + 2, y + height + 13), f"> {predicted[i]}", color, font)
    with atomic_path(path) as partial:
        sheet.save(partial, "PNG")
