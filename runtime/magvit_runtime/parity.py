"""How far latents are from a reference, and what that does to tokens.

A token's bit is the sign of a latent, so an error e matters only where |z| is of its size. Errors
are given in units of σ_z, the spread of the reference's latents; the bounds were found by
simulating each precision's rounding (docs/parity.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.manifest import Precision

RMS_LIMITS: dict[Precision, float] = {"fp32": 5e-5, "tf32": 4e-3, "fp16": 8e-3, "bf16": 6e-2}
MARGIN = 10.0


@dataclass(frozen=True)
class Agreement:
    """How latents agree with a reference.

    Attributes:
        rms: Root mean square of e, in σ_z.
        max: Largest |e|, in σ_z.
        bits: Bits compared.
        flipped_bits: Bits that differ.
        outside_margin: Flipped bits with |z_ref| > 10·rms(e): none is allowed.
        tokens: Tokens compared.
        changed_tokens: Tokens with a flipped bit.
    """

    rms: float
    max: float
    bits: int
    flipped_bits: int
    outside_margin: int
    tokens: int
    changed_tokens: int

    def passes(self, precision: Precision) -> bool:
        """Whether the error is within the precision's bound, and all flips within the margin."""
        return self.rms <= RMS_LIMITS[precision] and self.outside_margin == 0


def compare_latents(latents: NDArray[np.floating], reference: NDArray[np.floating]) -> Agreement:
    """Compares latents with a reference.

    Args:
        latents: [N, bits, ...] of finite floats.
        reference: The same, from the reference.
    """
    expected = reference.astype(np.float64)
    spread = expected.std()
    error = (latents.astype(np.float64) - expected) / spread
    rms = float(np.sqrt(np.mean(error**2)))
    flipped = (latents > 0) != (expected > 0)
    far = np.abs(expected) / spread > MARGIN * rms
    tokens = flipped.any(axis=1)
    return Agreement(
        rms=rms,
        max=float(np.abs(error).max()),
        bits=flipped.size,
        flipped_bits=int(flipped.sum()),
        outside_margin=int((flipped & far).sum()),
        tokens=tokens.size,
        changed_tokens=int(tokens.sum()),
    )
