"""How far outputs may be from the reference's, by precision."""

from __future__ import annotations

from magvit_runtime.types import Precision

# Largest rms error, in standard deviations of the reference's values; found by simulating each
# precision's rounding (docs/parity.md).
RMS_LIMITS: dict[Precision, float] = {"fp32": 5e-5, "tf32": 4e-3, "fp16": 8e-3, "bf16": 6e-2}
# A decision whose distance is more typical errors than this may not change.
MARGIN = 10.0
