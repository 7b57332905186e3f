"""How far outputs may be from the reference's, by precision."""

from __future__ import annotations

from dataclasses import dataclass

from magvit_runtime.types import Precision


@dataclass(frozen=True)
class PixelLimits:
    """How far pixels may be from the reference's, in levels: all together, and any one of them."""

    rms: float
    max: int


# Largest rms error, in standard deviations of the reference's values; found by simulating each
# precision's rounding (docs/parity.md).
RMS_LIMITS: dict[Precision, float] = {"fp32": 5e-5, "tf32": 4e-3, "fp16": 8e-3, "bf16": 6e-2}
# Float32 may round one value in a hundred to its neighbour; the others' limits are some four times
# what decoding with each of them does to the levels (docs/parity.md).
PIXEL_LIMITS: dict[Precision, PixelLimits] = {
    "fp32": PixelLimits(0.1, 1),
    "tf32": PixelLimits(0.5, 4),
    "fp16": PixelLimits(1.0, 8),
    "bf16": PixelLimits(8.0, 64),
}
# A decision whose distance is more typical errors than this may not change.
MARGIN = 10.0
