"""How many ids a quantizer has, and whether ids are among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError
from magvit_runtime.quantizers.specs import LfqSpec, QuantizerSpec


def vocabulary_size(quantizer: QuantizerSpec) -> int:
    """The number of ids; ids are in 0 .. this number - 1."""
    if isinstance(quantizer, LfqSpec):
        return int(2**quantizer.bits)
    return quantizer.size


def sign_bits(quantizer: QuantizerSpec) -> int | None:
    """Bits of an id, if ids are the signs of latents; None for other ids."""
    return quantizer.bits if isinstance(quantizer, LfqSpec) else None


def check_ids(what: str, ids: NDArray[np.integer], quantizer: QuantizerSpec) -> None:
    """Refuses ids that a quantizer doesn't have.

    Args:
        what: Name of the ids in the message.
        ids: [...].
        quantizer: The quantizer of the ids.

    Raises:
        InputError: The array isn't of integers, or an id isn't in its vocabulary.
    """
    last = vocabulary_size(quantizer) - 1
    if not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f"{what} must be integers", found=ids.dtype)
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) > last):
        raise InputError(
            f"{what} are out of range",
            found=f"{ids.min()} to {ids.max()}",
            expected=f"0 to {last}",
        )
