"""Token ids, their bits, and their two-part form.

Bit i of an id is latent channel i, so bits are listed least significant first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError
from magvit_runtime.types import MAX_BITS


def ids_to_bits(ids: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """Bits of token ids.

    Args:
        ids: Integer [...] in 0 .. 2^bits - 1.
        bits: Bits per token, 1..31.

    Returns:
        uint8 [..., bits] of 0 and 1, least significant first.

    Raises:
        InputError: An id is out of range, or `bits` is.
    """
    _check_ids(ids, bits)
    shifts = np.arange(bits, dtype=np.int64)
    return ((ids[..., None].astype(np.int64) >> shifts) & 1).astype(np.uint8)


def bits_to_ids(bits: NDArray[np.integer | np.bool_]) -> NDArray[np.int32]:
    """Token ids of bits.

    Args:
        bits: [..., B] of 0 and 1 (or bool), least significant first, B in 1..31.

    Returns:
        int32 [...].

    Raises:
        InputError: A value is neither 0 nor 1, or there are too many bits.
    """
    count = bits.shape[-1] if bits.ndim else 0
    _check_bits(count)
    values = bits.astype(np.int64)
    if not ((bits == 0) | (bits == 1)).all():
        raise InputError("bits must be 0 or 1", found=f"values from {bits.min()} to {bits.max()}")
    weights = np.int64(1) << np.arange(count, dtype=np.int64)
    ids: NDArray[np.int32] = (values * weights).sum(axis=-1).astype(np.int32)
    return ids


def factorize_ids(
    ids: NDArray[np.integer], bits: int = 18, low_bits: int = 6
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Splits ids into a low and a high part: id = pre + 2^low_bits · post.

    Args:
        ids: Integer [...] in 0 .. 2^bits - 1.
        bits: Bits per token.
        low_bits: Bits of `pre`; the autoregressive models use 6 of 18.

    Returns:
        (pre, post): int32 [...] each.

    Raises:
        InputError: An id is out of range, or `low_bits` isn't in 1 .. bits - 1.
    """
    _check_ids(ids, bits)
    if not 1 <= low_bits < bits:
        raise InputError("`low_bits` is out of range", found=low_bits, expected=f"1..{bits - 1}")
    values = ids.astype(np.int64)
    pre = values & ((1 << low_bits) - 1)
    return pre.astype(np.int32), (values >> low_bits).astype(np.int32)


def join_ids(
    pre: NDArray[np.integer], post: NDArray[np.integer], low_bits: int = 6
) -> NDArray[np.int32]:
    """The ids whose parts are `pre` (in 0 .. 2^low_bits - 1) and `post`: pre + 2^low_bits · post.

    Raises:
        InputError: A part is negative or too large for an int32 id.
    """
    _check_ids(pre, low_bits)
    _check_ids(post, MAX_BITS - low_bits)
    return (pre.astype(np.int64) + (post.astype(np.int64) << low_bits)).astype(np.int32)


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise InputError("a token has 1 to 31 bits", found=bits)


def _check_ids(ids: NDArray[np.integer], bits: int) -> None:
    _check_bits(bits)
    if not np.issubdtype(ids.dtype, np.integer):
        raise InputError("token ids must be integers", found=ids.dtype)
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= 1 << bits):
        raise InputError(
            f"token ids of {bits} bits are out of range",
            found=f"{ids.min()} to {ids.max()}",
            expected=f"0 to {(1 << bits) - 1}",
        )
