"""What sources of clips give: a few clips at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClipBatch:
    """A few clips.

    Attributes:
        ids: Name of each clip.
        labels: Class of each clip, where it is known.
        frames: uint8 RGB [N, T, H, W, 3].
    """

    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    frames: NDArray[np.uint8]
