"""The CUDA operators of libmagvit_cuda.so: pixels, the passes of GroupNorm, and LFQ.

kernels/include/magvit/cuda_operators.h says what each does. Pointers are addresses on the GPU.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.lookup import cuda_library, load_library, missing_library
from magvit_runtime.native_libraries.operators import GroupNormOptions
from magvit_runtime.types import FloatType

ABI = 2
DTYPES: dict[FloatType, int] = {"float32": 0, "float16": 1}

Triple = ctypes.c_int64 * 3


class MapStructure(ctypes.Structure):
    """`struct magvit_cuda_map`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("batch", ctypes.c_int64),
        ("sizes", Triple),
        ("channels", ctypes.c_int64),
        ("pitch", ctypes.c_int64),
        ("before", Triple),
        ("after", Triple),
    )


class Addends(ctypes.Structure):
    """`struct magvit_cuda_addends`."""

    _fields_ = (("bias", ctypes.c_void_p), ("residual", ctypes.c_void_p))


class CudaOperators:
    """The operators; each call enqueues kernels on a stream and returns at once.

    Thread-safe, and every call can be captured in a CUDA graph.

    Args:
        library: libmagvit_cuda.so, or one of the same interface.
    """

    def __init__(self, library: Any) -> None:
        self._library = library

    def workspace_bytes(self, features: MapStructure, groups: int) -> int:
        """Bytes of workspace that the statistics of a map take."""
        return int(self._library.magvit_cuda_workspace_bytes(features, groups))

    def pixels(
        self, frames: int, divisor: float, offset: float, output: MapStructure, stream: int
    ) -> None:
        """Bytes to normalised values: byte / divisor + offset."""
        self._call("magvit_cuda_pixels", frames, divisor, offset, output, stream)

    def statistics(
        self,
        features: MapStructure,
        addends: Addends,
        total: MapStructure,
        options: GroupNormOptions,
        workspace: int,
        arrivals: int,
        stream: int,
    ) -> None:
        """GroupNorm's first pass: moments of a sum, which is written if there are addends.

        `arrivals` is `arrivals_bytes` of zeros, which are zero again after the pass; each stream
        needs its own.
        """
        self._call(
            "magvit_cuda_statistics",
            features,
            addends,
            total,
            ctypes.byref(options),
            workspace,
            arrivals,
            stream,
        )

    def apply(
        self,
        features: MapStructure,
        addends: Addends,
        sum_type: FloatType,
        options: GroupNormOptions | None,
        workspace: int | None,
        output: MapStructure,
        stream: int,
    ) -> None:
        """GroupNorm's second pass, or with no options a sum, into a map that may have a border."""
        self._call(
            "magvit_cuda_apply",
            features,
            addends,
            DTYPES[sum_type],
            None if options is None else ctypes.byref(options),
            workspace,
            output,
            stream,
        )

    def lfq(self, latents: MapStructure, ids: int, channels_first: int, stream: int) -> None:
        """Latents to ids, and to float32 with channels first."""
        self._call("magvit_cuda_lfq", latents, ids, channels_first, stream)

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            message = self._library.magvit_cuda_error_message(status).decode()
            raise BackendError(f"{name} failed", found=message)


def load_cuda_operators() -> CudaOperators:
    """The library of the CUDA operators, loaded once.

    Raises:
        BackendError: It is missing or of another version.
    """
    path = cuda_library()
    if path is None:
        raise missing_library("the CUDA operators (libmagvit_cuda.so)", "nvcc")
    return CudaOperators(_load(path))


@cache
def _load(path: Path) -> ctypes.CDLL:
    return declare(load_library(path, "magvit_cuda_operators_abi", ABI))


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tells ctypes the signatures of a library of this interface."""
    pointer, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    options = ctypes.POINTER(GroupNormOptions)
    library.magvit_cuda_workspace_bytes.argtypes = (MapStructure, number)
    library.magvit_cuda_workspace_bytes.restype = number
    library.magvit_cuda_pixels.argtypes = (pointer, real, real, MapStructure, pointer)
    library.magvit_cuda_statistics.argtypes = (
        MapStructure,
        Addends,
        MapStructure,
        options,
        pointer,
        pointer,
        pointer,
    )
    library.magvit_cuda_apply.argtypes = (
        MapStructure,
        Addends,
        ctypes.c_int,
        options,
        pointer,
        MapStructure,
        pointer,
    )
    library.magvit_cuda_lfq.argtypes = (MapStructure, pointer, pointer, pointer)
    library.magvit_cuda_error_message.argtypes = (ctypes.c_int32,)
    library.magvit_cuda_error_message.restype = ctypes.c_char_p
    return library
