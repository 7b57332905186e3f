"""The CPU operators of libmagvit_operators.so for NumPy arrays.

The arithmetic is that of the CUDA kernels (kernels/): LFQ, the search of a codebook, and GroupNorm
with or without SiLU, whose fp32 statistics stay accurate over any number of positions. Every
function is thread-safe and releases the GIL while it computes; results don't depend on the number
of threads.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from magvit_runtime.errors import InputError
from magvit_runtime.native_libraries.lookup import (
    load_library,
    missing_library,
    operators_library,
)
from magvit_runtime.types import Activation

if TYPE_CHECKING:
    from numpy.typing import NDArray

# `enum magvit_activation` of magvit/operators.h.
ACTIVATIONS: dict[Activation, int] = {"none": 0, "silu": 1}

ABI = 4
_DTYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1}
_CHANNELS_FIRST, _CHANNELS_LAST = 0, 1


class ShapeStructure(ctypes.Structure):
    """`struct magvit_shape` of magvit/operators.h."""

    _fields_ = (
        ("batch", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("positions", ctypes.c_int64),
        ("layout", ctypes.c_int),
        ("channel_pitch", ctypes.c_int64),
    )


class GroupNormOptions(ctypes.Structure):
    """`struct magvit_group_norm_options` of magvit/operators.h; its arrays may lie on a GPU."""

    _fields_ = (
        ("num_groups", ctypes.c_int64),
        ("epsilon", ctypes.c_float),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("affine_per_sample", ctypes.c_int32),
        ("activation", ctypes.c_int),
    )


def lfq(latents: NDArray[Any], threads: int | None = None) -> NDArray[np.int32]:
    """Token ids of latents: bit i is 1 where channel i is above zero, channel 0 lowest.

    Args:
        latents: float32 or float16 [N, C, ...] of rank 3 to 5, C from 1 to 31. Zero, -0 and NaN
            count as not above zero.
        threads: Threads to use; None means one for each CPU.

    Returns:
        int32 [N, ...].

    Raises:
        InputError: The array has another dtype, rank or number of channels.
        BackendError: The library is missing or of another version.
    """
    array, shape = _as_feature_map(latents)
    ids = np.empty((array.shape[0], *array.shape[2:]), np.int32)
    _call(
        "magvit_lfq",
        array.ctypes.data,
        _DTYPES[array.dtype],
        shape,
        ids.ctypes.data,
        None,
        threads or 0,
    )
    return ids


def codebook_argmax(
    latents: NDArray[Any], codebook: NDArray[np.float32], threads: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The row of a codebook that fits each position best, and by how much.

    Args:
        latents: float32 or float16 [N, C, ...] of rank 3 to 5.
        codebook: float32 [rows, C], at least one row. Of equal products the lowest row counts; a
            NaN is above all others, as in NumPy's argmax.
        threads: Threads to use; None means one for each CPU.

    Returns:
        (ids, margins): int32 and float32 [N, ...]: the row with the largest dot product, and that
        product less the second largest.

    Raises:
        InputError: An array has another dtype or rank, or the two don't fit.
        BackendError: The library is missing or of another version.
    """
    array, shape = _as_feature_map(latents)
    if codebook.dtype != np.float32 or codebook.ndim != 2 or codebook.shape[1] != array.shape[1]:
        raise InputError(
            "the codebook doesn't fit the latents",
            found=f"{codebook.dtype} {list(codebook.shape)}",
            expected=f"float32 [rows, {array.shape[1]}]",
        )
    rows = np.ascontiguousarray(codebook)
    sizes = (array.shape[0], *array.shape[2:])
    ids, margins = np.empty(sizes, np.int32), np.empty(sizes, np.float32)
    _call(
        "magvit_codebook_argmax",
        array.ctypes.data,
        _DTYPES[array.dtype],
        shape,
        rows.ctypes.data,
        len(rows),
        ids.ctypes.data,
        margins.ctypes.data,
        threads or 0,
    )
    return ids, margins


def group_norm(
    x: NDArray[Any],
    weight: NDArray[Any] | None = None,
    bias: NDArray[Any] | None = None,
    num_groups: int = 32,
    epsilon: float = 1e-6,
    threads: int | None = None,
) -> NDArray[Any]:
    """GroupNorm over (C / num_groups, ...) of each sample.

    Args:
        x: float32 or float16 [N, C, ...] of rank 3 to 5. Channels-last memory (an array whose
            `np.moveaxis(x, 1, -1)` is contiguous) is used in place; other strides are copied.
        weight: [C], or [N, C] for a separate affine map of each sample; None for none.
        bias: As `weight`; both or neither.
        num_groups: Divides C.
        epsilon: Added to the variance.
        threads: Threads to use; None means one for each CPU.

    Returns:
        Dtype, shape and memory layout of `x`; computed in float32.

    Raises:
        InputError: An array or number doesn't fit.
        BackendError: The library is missing or of another version.
    """
    return _group_norm(x, weight, bias, num_groups, epsilon, "none", threads)


def group_norm_silu(
    x: NDArray[Any],
    weight: NDArray[Any] | None = None,
    bias: NDArray[Any] | None = None,
    num_groups: int = 32,
    epsilon: float = 1e-6,
    threads: int | None = None,
) -> NDArray[Any]:
    """GroupNorm, then SiLU: y * sigmoid(y). Arguments and result are those of `group_norm`."""
    return _group_norm(x, weight, bias, num_groups, epsilon, "silu", threads)


def _group_norm(
    x: NDArray[Any],
    weight: NDArray[Any] | None,
    bias: NDArray[Any] | None,
    num_groups: int,
    epsilon: float,
    activation: Activation,
    threads: int | None,
) -> NDArray[Any]:
    array, shape = _as_feature_map(x)
    options = GroupNormOptions(
        num_groups=num_groups, epsilon=epsilon, activation=ACTIVATIONS[activation]
    )
    if weight is not None and bias is not None:
        weight = np.ascontiguousarray(weight, np.float32)
        bias = np.ascontiguousarray(bias, np.float32)
        if weight.shape != bias.shape or weight.shape not in (array.shape[1:2], array.shape[:2]):
            raise InputError(
                "weight and bias of a GroupNorm don't fit its input",
                found=f"weight {weight.shape}, bias {bias.shape}",
                expected=f"both {array.shape[1:2]} or both {array.shape[:2]}",
            )
        options.weight = weight.ctypes.data
        options.bias = bias.ctypes.data
        options.affine_per_sample = weight.ndim - 1
    elif weight is not None or bias is not None:
        raise InputError(
            "weight and bias of a GroupNorm go together",
            found="one of them",
            expected="both or neither",
        )

    output = np.empty_like(array)
    _call(
        "magvit_group_norm",
        array.ctypes.data,
        _DTYPES[array.dtype],
        shape,
        ctypes.byref(options),
        output.ctypes.data,
        threads or 0,
    )
    return output


def _as_feature_map(values: NDArray[Any]) -> tuple[NDArray[Any], ShapeStructure]:
    """The array, contiguous in one of the two layouts, and its description."""
    if values.dtype not in _DTYPES or not 3 <= values.ndim <= 5:
        raise InputError(
            "the operators take feature maps [N, C, ...]",
            found=f"{values.dtype} of rank {values.ndim}",
            expected="float32 or float16 of rank 3 to 5",
        )
    if values.flags.c_contiguous or not np.moveaxis(values, 1, -1).flags.c_contiguous:
        layout = _CHANNELS_FIRST
        values = np.ascontiguousarray(values)
    else:
        layout = _CHANNELS_LAST
    positions = int(np.prod(values.shape[2:], dtype=np.int64))
    return values, ShapeStructure(values.shape[0], values.shape[1], positions, layout, 0)


def _call(name: str, *arguments: object) -> None:
    library = load_operators()
    status = getattr(library, name)(*arguments)
    if status != 0:
        raise InputError(f"{name}: {library.magvit_status_message(status).decode()}")


def load_operators() -> ctypes.CDLL:
    """The library of the CPU operators, loaded once.

    Raises:
        BackendError: It is missing or of another version.
    """
    path = operators_library()
    if path is None:
        raise missing_library("the CPU operators (libmagvit_operators.so)", "a C++17 compiler")
    return _load_operators(path)


@cache
def _load_operators(path: Path) -> ctypes.CDLL:
    library = load_library(path, "magvit_operators_abi", ABI)
    pointer = ctypes.c_void_p
    library.magvit_lfq.argtypes = (
        pointer,
        ctypes.c_int,
        ShapeStructure,
        pointer,
        pointer,
        ctypes.c_int32,
    )
    library.magvit_codebook_argmax.argtypes = (
        pointer,
        ctypes.c_int,
        ShapeStructure,
        pointer,
        ctypes.c_int64,
        pointer,
        pointer,
        ctypes.c_int32,
    )
    library.magvit_group_norm.argtypes = (
        pointer,
        ctypes.c_int,
        ShapeStructure,
        ctypes.POINTER(GroupNormOptions),
        pointer,
        ctypes.c_int32,
    )
    library.magvit_status_message.argtypes = (ctypes.c_int,)
    library.magvit_status_message.restype = ctypes.c_char_p
    return library
