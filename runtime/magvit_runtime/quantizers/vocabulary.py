"""How many ids a quantizer has, and whether ids are among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError
from magvit_runtime.quantizers.specs import LfqSpec, QuantizerSpec


def vocabulary_size(quantizer: QuantizerSpec) -> int:
    """Number of ids: they are in 0 .. this - 1."""
    if isinstance(quantizer, LfqSpec):
        return int(2**quantizer.bits)
    return quantizer.size


def sign_bits(quantizer: QuantizerSpec) -> int | None:
    """Bits of an id where they are the signs of latents; None where an id is something else."""
    return quantizer.bits if isinstance(quantizer, LfqSpec) else None


def check_ids(ids: NDArray[np.integer], vocabulary: int) -> None:
    """Refuses ids that aren't of a vocabulary.

    Args:
        ids: [...].
        vocabulary: Number of ids.

    Raises:
        InputError: The array isn't of integers, or an id isn't in 0 .. vocabulary - 1.
    """
    if not np.issubdtype(ids.dtype, np.integer):
        raise InputError("token ids must be integers", found=ids.dtype)
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= vocabulary):
        raise InputError(
            "token ids are out of range",
            found=f"{ids.min()} to {ids.max()}",
            expected=f"0 to {vocabulary - 1}",
        )
