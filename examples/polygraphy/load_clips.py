"""Real clips for `polygraphy … --data-loader-script`, in batches of at most 4.

The environment variable MAGVIT_CLIPS names the file that `magvit render … -o clips.npy` wrote.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BATCH = 4


def load_data() -> Iterator[dict[str, NDArray[np.uint8]]]:
    """The graph's input: uint8 [N, T, H, W, 3] in [0, 255]."""
    clips = np.load(os.environ["MAGVIT_CLIPS"], mmap_mode="r")
    for first in range(0, len(clips), BATCH):
        yield {"frames": np.array(clips[first : first + BATCH])}
