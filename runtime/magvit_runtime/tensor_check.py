"""Refuses an array that a graph doesn't take, before work starts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError
from magvit_runtime.manifest import TensorSpec


def check_array(what: str, array: NDArray[Any], spec: TensorSpec) -> None:
    """Checks an array's type and shape against a graph input.

    Args:
        what: Name of the array in the message.
        array: The array.
        spec: What the graph takes; named sizes may be any positive number.

    Raises:
        InputError: The array is of another type or shape, or has a size of zero.
    """
    if not isinstance(array, np.ndarray):
        raise InputError(f"{what} must be a NumPy array", found=type(array).__name__)
    fits = array.ndim == len(spec.shape) and all(
        size >= 1 and (isinstance(expected, str) or size == expected)
        for size, expected in zip(array.shape, spec.shape, strict=True)
    )
    if array.dtype != np.dtype(spec.dtype) or not fits:
        raise InputError(
            f"{what} don't fit this model",
            found=f"{array.dtype} {list(array.shape)}",
            expected=f"{spec.dtype} [{', '.join(map(str, spec.shape))}] ({spec.meaning})",
        )
