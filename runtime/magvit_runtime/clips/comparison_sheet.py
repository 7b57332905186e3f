"""One picture of clips beside what a tokenizer made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.hardware.packages import missing_package

GAP = 4
BACKGROUND = 24
# Differences are shown brighter than they are: most are a few levels.
GAIN = 4


def comparison_sheet(original: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A row for each clip: its middle frame, that frame decoded, and their difference times 4.

    Args:
        original: uint8 RGB, [N, T, H, W, 3] or [N, H, W, 3].
        decoded: Of the same shape.

    Returns:
        uint8 RGB [N (H + 4) + 4, 3 (W + 4) + 4, 3].
    """
    if original.ndim == 5:
        middle = original.shape[1] // 2
        original, decoded = original[:, middle], decoded[:, middle]
    difference = np.abs(original.astype(np.int16) - decoded)
    shown = np.minimum(difference * GAIN, 255).astype(np.uint8)
    count, height, width, _ = original.shape
    shape = (count * (height + GAP) + GAP, 3 * (width + GAP) + GAP, 3)
    sheet = np.full(shape, BACKGROUND, np.uint8)
    for row in range(count):
        y = GAP + row * (height + GAP)
        for column, frame in enumerate((original[row], decoded[row], shown[row])):
            x = GAP + column * (width + GAP)
            sheet[y : y + height, x : x + width] = frame
    return sheet


def write_comparison_sheet(
    path: Path, original: NDArray[np.uint8], decoded: NDArray[np.uint8]
) -> None:
    """Writes `comparison_sheet` as a PNG.

    Raises:
        MissingPackageError: Pillow isn't installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_package("PIL", "a contact sheet") from error
    picture = Image.fromarray(comparison_sheet(original, decoded))
    with atomic_path(path) as partial:
        picture.save(partial, "PNG")
