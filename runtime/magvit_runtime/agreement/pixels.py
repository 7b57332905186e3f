"""How pixels agree with a reference's, in levels of 0..255.

- e: a value minus the reference's, in levels. rms = √mean(e²), max = max|e|.
- A value is changed where e isn't 0.
- The rule: rms and max are within the precision's limits. For float32 these are 0.1 and 1: at most
  one value in a hundred may have been rounded to its neighbour. Where arithmetic rounds more, so
  does the picture; `limits.py` says where each limit comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.agreement.limits import PIXEL_LIMITS
from magvit_runtime.bundle.manifest import PixelMetrics, Precision
from magvit_runtime.errors import InputError


@dataclass(frozen=True)
class PixelAgreement:
    """How pixels agree with a reference; the module's docstring defines the terms.

    Attributes:
        rms, max: Error in levels.
        values: Values compared, three a pixel.
        changed_values: Those that differ.
        clip_rms: The rms error of each clip by its name, in levels.
    """

    rms: float
    max: int
    values: int
    changed_values: int
    clip_rms: dict[str, float]

    def passes(self, precision: Precision) -> bool:
        """Whether the rule holds for this precision."""
        limits = PIXEL_LIMITS[precision]
        return self.rms <= limits.rms and self.max <= limits.max

    @property
    def metrics(self) -> PixelMetrics:
        """What a stamp keeps."""
        names = PixelMetrics.__struct_fields__
        return PixelMetrics(**{name: getattr(self, name) for name in names})

    @property
    def facts(self) -> dict[str, Any]:
        """All that was measured, ready for JSON."""
        return msgspec.structs.asdict(self.metrics) | {
            "change_rate": self.changed_values / self.values,
            "clip_rms": self.clip_rms,
        }

    @property
    def summary(self) -> str:
        """One line for people."""
        changed = self.changed_values / self.values
        return (
            f"rms error {self.rms:.2g} levels, at most {self.max}; {changed:.2%} of values changed"
        )


class PixelAccumulator:
    """Compares pixels with a reference's, batch by batch; holds sums only."""

    def __init__(self) -> None:
        self._largest = 0
        self._values = 0
        self._changed = 0
        # Squared errors and values of each clip.
        self._clips: dict[str, tuple[int, int]] = {}

    def add(
        self, pixels: NDArray[np.uint8], reference: NDArray[np.uint8], names: Sequence[str]
    ) -> None:
        """Adds a batch: uint8 [N, ...] of one shape; `names` are those of its clips.

        Raises:
            InputError: The shapes or types differ, or there are no values.
        """
        shapes = {pixels.shape, reference.shape}
        if (
            len(shapes) != 1
            or not pixels.size
            or {pixels.dtype, reference.dtype} != {np.dtype(np.uint8)}
        ):
            raise InputError(
                "pixels can't be compared with the reference's",
                found=f"{pixels.dtype} {list(pixels.shape)}, "
                f"{reference.dtype} {list(reference.shape)}",
                expected="two uint8 arrays of one shape",
            )
        errors = np.abs(pixels.astype(np.int16) - reference)
        self._largest = max(self._largest, int(errors.max()))
        self._values += errors.size
        self._changed += int(np.count_nonzero(errors))
        for name, error in zip(names, errors, strict=True):
            squares, values = self._clips.get(name, (0, 0))
            flat = error.ravel().astype(np.int64)
            self._clips[name] = squares + int(flat @ flat), values + error.size

    def result(self) -> PixelAgreement:
        """The agreement of all batches so far.

        Raises:
            InputError: Nothing was added.
        """
        if not self._values:
            raise InputError("there is nothing to compare", found="0 clips", expected="1 or more")
        squares = sum(squares for squares, _ in self._clips.values())
        return PixelAgreement(
            rms=float(np.sqrt(squares / self._values)),
            max=self._largest,
            values=self._values,
            changed_values=self._changed,
            clip_rms={name: float(np.sqrt(s / n)) for name, (s, n) in self._clips.items()},
        )
