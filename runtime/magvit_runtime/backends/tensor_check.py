"""Refuses arrays that a graph doesn't take, and results that differ from the bundle's manifest."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from functools import cache

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle.manifest import TensorSpec
from magvit_runtime.cuda.arrays import DeviceArray
from magvit_runtime.errors import BundleError, InputError


def check_array(what: str, array: object, spec: TensorSpec) -> None:
    """Checks an array's type and shape against a graph input, and integers against its range.

    Args:
        what: Name of the array in the message.
        array: The array.
        spec: What the graph takes; named sizes may be any positive number.

    Raises:
        InputError: The array is of another type or shape, has a size of zero, or an integer that is
            out of range.
    """
    if not isinstance(array, np.ndarray):
        if isinstance(array, Sized) and len(array) == 0:
            raise _empty(what, f"an empty {type(array).__name__}", spec)
        raise InputError(f"{what} must be a NumPy array", found=type(array).__name__)
    if array.ndim and array.size == 0:
        raise _empty(what, f"{array.dtype} {list(array.shape)}", spec)
    if array.dtype != _dtype(spec.dtype) or not _takes(spec.shape, array.shape):
        raise _misfit(what, f"{array.dtype} {list(array.shape)}", spec)
    if array.dtype.kind in "iu":
        _check_range(what, array, spec)


def check_device_array(what: str, array: object, spec: TensorSpec) -> int:
    """Checks the shape of another library's array on a GPU against a graph input.

    The session checks its type, because each library names types in its own way.

    Args:
        what: Name of the array in the message.
        array: The array.
        spec: What the graph takes.

    Returns:
        Its first size: the batch.

    Raises:
        InputError: It has no shape, another shape, or a size of zero.
    """
    shape = getattr(array, "shape", None)
    if shape is None:
        raise InputError(f"{what} must be an array on the GPU", found=type(array).__name__)
    if 0 in shape:
        raise _empty(what, f"shape {list(shape)}", spec)
    if not _takes(spec.shape, shape):
        raise _misfit(what, f"shape {list(shape)}", spec)
    return int(shape[0])


def _check_range(what: str, array: NDArray[np.integer], spec: TensorSpec) -> None:
    # Without `np.iinfo`: this runs in every call, and that class takes longer than all the checks.
    bits = 8 * array.itemsize
    least = 0 if array.dtype.kind == "u" else -(2 ** (bits - 1))
    most = least + 2**bits - 1
    low = least if spec.minimum is None else spec.minimum
    high = most if spec.maximum is None else spec.maximum
    # If the range covers the whole type, as 0 .. 255 covers bytes, no value needs to be read.
    if low <= least and most <= high:
        return
    if array.min() < low or array.max() > high:
        first = np.argwhere((array < low) | (array > high))[0]
        raise InputError(
            f"{what} are out of range",
            found=f"{array[tuple(first)]} at {first.tolist()}",
            expected=f"{low:.0f} to {high:.0f} ({spec.meaning})",
        )


# A loop, and types that are kept, since every call comes by here: after a backend's run, a
# generator costs 15 µs, and a type that is compared by its name 20.
def _takes(expected_shape: Sequence[int | str], shape: Sequence[int]) -> bool:
    if len(shape) != len(expected_shape):
        return False
    for size, expected in zip(shape, expected_shape, strict=True):
        if size < 1 or (size != expected and not isinstance(expected, str)):
            return False
    return True


_dtype = cache(np.dtype)


def _empty(what: str, found: str, spec: TensorSpec) -> InputError:
    return InputError(
        f"{what} are empty",
        found=found,
        expected=f"one at least: {_description(spec)}",
        mend="leave out the call where there is nothing to run",
    )


def _misfit(what: str, found: str, spec: TensorSpec) -> InputError:
    return InputError(f"{what} don't fit this model", found=found, expected=_description(spec))


def _description(spec: TensorSpec) -> str:
    return f"{spec.dtype} [{', '.join(map(str, spec.shape))}] ({spec.meaning})"


def check_result(result: object, spec: TensorSpec, count: int) -> None:
    """Checks a graph's output for `count` clips against the manifest.

    Args:
        result: The output.
        spec: The output as the manifest describes it; its first size is the batch.
        count: The number of input clips.

    Raises:
        BundleError: The graph isn't the one that the manifest describes.
    """
    if (
        isinstance(result, (np.ndarray, DeviceArray))
        and result.dtype == _dtype(spec.dtype)
        and _takes((count, *spec.shape[1:]), result.shape)
    ):
        return
    # Done only for the error, because spelling out a type takes longer than all the checks.
    found = type(result).__name__
    if isinstance(result, (np.ndarray, DeviceArray)):
        found = f"{result.dtype} {list(result.shape)}"
    raise BundleError(
        f"the graph's output {spec.name!r} isn't what bundle.json says",
        found=found,
        expected=f"{spec.dtype} [{', '.join(map(str, (count, *spec.shape[1:])))}]",
        mend="export it again with `magvit export`",
    )
