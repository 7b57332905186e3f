"""One picture of many images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.hardware.packages import missing_package

GAP = 4
BACKGROUND = 24


def image_grid(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Images in rows, from the top left.

    Args:
        images: uint8 RGB, [N, H, W, 3].
        columns: Images of a row.

    Returns:
        uint8 RGB [ceil(N / columns) (H + 4) + 4, columns (W + 4) + 4, 3].
    """
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    shape = (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3)
    grid = np.full(shape, BACKGROUND, np.uint8)
    for i, image in enumerate(images):
        y = GAP + i // columns * (height + GAP)
        x = GAP + i % columns * (width + GAP)
        grid[y : y + height, x : x + width] = image
    return grid


def write_image_grid(path: Path, images: NDArray[np.uint8], columns: int) -> None:
    """Writes `image_grid` as a PNG.

    Raises:
        MissingPackageError: Pillow isn't installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_package("PIL", "a sheet of images") from error
    picture = Image.fromarray(image_grid(images, columns))
    with atomic_path(path) as partial:
        picture.save(partial, "PNG")
