"""Which frames of a clip a model of fixed length sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_chosen(count: int, wanted: int) -> NDArray[np.intp]:
    """Numbers of frames that are spread evenly from a clip's first frame to its last.

    Frame i of `wanted` is number i·(count − 1)/(wanted − 1), rounded to the nearest, halves up. So
    of 17 frames, 16 are all but number 8, the middle one; a clip that is shorter repeats frames, in
    order; and one frame is the middle one, the earlier of two.

    Args:
        count: Frames of the clip, one or more.
        wanted: Frames to choose, one or more.
    """
    if wanted == 1:
        return np.array([(count - 1) // 2])
    # In integers, so that no machine rounds otherwise.
    steps = wanted - 1
    return (2 * np.arange(wanted) * (count - 1) + steps) // (2 * steps)
