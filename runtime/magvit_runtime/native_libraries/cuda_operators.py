"""The CUDA operators of libmagvit_cuda.so: all of encoders and decoders but most of their convs.

kernels/include/magvit/cuda_operators.h says what each does. Pointers are addresses on the GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.lookup import cuda_library, load_library, missing_library
from magvit_runtime.native_libraries.operators import GroupNormOptions
from magvit_runtime.types import FloatType

ABI = 5
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


class ChannelStatistic(ctypes.Structure):
    """`struct magvit_cuda_channel_statistic`."""

    _fields_ = (
        ("is_spread", ctypes.c_int32),
        ("epsilon", ctypes.c_float),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("vectors", ctypes.c_void_p),
    )


class Window(ctypes.Structure):
    """`struct magvit_cuda_window`."""

    _fields_ = (
        ("frame_sizes", Triple),
        ("pixel_channels", ctypes.c_int64),
        ("kernel", Triple),
        ("stride", Triple),
        ("pads_before", Triple),
        ("pads_after", Triple),
    )


class AttentionBiases(ctypes.Structure):
    """`struct magvit_cuda_attention_biases`."""

    _fields_ = (
        ("queries", ctypes.c_void_p),
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
    )


class Rounding(ctypes.Structure):
    """`struct magvit_cuda_rounding`."""

    _fields_ = tuple(
        (name, ctypes.c_float) for name in ("low", "high", "offset", "scale", "rounding")
    )


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

    def unfolded_pixels(
        self,
        frames: int,
        divisor: float,
        offset: float,
        window: Window,
        output: MapStructure,
        stream: int,
    ) -> None:
        """The normalised values of a conv's windows, each window as the channels of a position."""
        self._call("magvit_cuda_unfolded_pixels", frames, divisor, offset, window, output, stream)

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

    def conv_fits(self, source: MapStructure, output: MapStructure, kernel_frames: int) -> bool:
        """Whether `conv` computes a conv of these maps on the current GPU."""
        return bool(self._library.magvit_cuda_conv_fits(source, output, kernel_frames))

    def conv(
        self,
        source: MapStructure,
        weight: int,
        kernel_frames: int,
        addends: Addends,
        output: MapStructure,
        options: GroupNormOptions | None,
        workspace: int | None,
        stream: int,
    ) -> None:
        """A causal conv plus addends; with options, GroupNorm's first pass over the output too."""
        norm = None if options is None else ctypes.byref(options)
        maps = source, weight, kernel_frames, addends, output
        self._call("magvit_cuda_conv", *maps, norm, workspace, stream)

    def channels_first(self, features: MapStructure, output: int, stream: int) -> None:
        """A map to float32 with channels first."""
        self._call("magvit_cuda_channels_first", features, output, stream)

    def lfq(self, latents: MapStructure, ids: int, stream: int) -> None:
        """Latents to ids."""
        self._call("magvit_cuda_lfq", latents, ids, stream)

    def codebook_workspace_bytes(self, latents: MapStructure) -> int:
        """Bytes of workspace that the search of a codebook takes."""
        return int(self._library.magvit_cuda_codebook_workspace_bytes(latents))

    def codebook_argmax(
        self,
        latents: MapStructure,
        codebook: int,
        rows: int,
        ids: int,
        margins: int,
        workspace: int,
        stream: int,
    ) -> None:
        """Latents to the rows of a codebook that fit best, and by how much."""
        self._call(
            "magvit_cuda_codebook_argmax", latents, codebook, rows, ids, margins, workspace, stream
        )

    def lfq_codes(self, ids: int, output: MapStructure, stream: int) -> None:
        """Ids to 1 and -1 for each bit."""
        self._call("magvit_cuda_lfq_codes", ids, output, stream)

    def codebook_rows(
        self, ids: int, codebook: int, rows: int, output: MapStructure, stream: int
    ) -> None:
        """Ids to the rows of a codebook, whose pitch is the output's; NaN where there is none."""
        self._call("magvit_cuda_codebook_rows", ids, codebook, rows, output, stream)

    def channel_vectors(
        self,
        features: MapStructure,
        scale: ChannelStatistic,
        shift: ChannelStatistic,
        outputs: int,
        stream: int,
    ) -> None:
        """Linear layers of the spread or the mean of a map's channels, for each clip."""
        self._call("magvit_cuda_channel_vectors", features, scale, shift, outputs, stream)

    def depth_to_space(
        self,
        features: MapStructure,
        bias: int | None,
        block: Sequence[int],
        output: MapStructure,
        stream: int,
    ) -> None:
        """Blocks of positions out of channels, to which a bias is added before."""
        self._call("magvit_cuda_depth_to_space", features, bias, Triple(*block), output, stream)

    def repeat(
        self, features: MapStructure, height: int, width: int, output: MapStructure, stream: int
    ) -> None:
        """Each position as a block of equal ones."""
        self._call("magvit_cuda_repeat", features, height, width, output, stream)

    def attention_workspace_bytes(self, queries: MapStructure) -> int:
        """Bytes of workspace that an attention takes."""
        return int(self._library.magvit_cuda_attention_workspace_bytes(queries))

    def attention(
        self,
        queries: MapStructure,
        keys: MapStructure,
        values: MapStructure,
        biases: AttentionBiases,
        output: MapStructure,
        workspace: int,
        stream: int,
    ) -> None:
        """Attention with one head over all positions; biases are added to the maps first."""
        self._call(
            "magvit_cuda_attention", queries, keys, values, biases, output, workspace, stream
        )

    def bytes_of(
        self,
        features: MapStructure,
        bias: int | None,
        rounding: Rounding,
        frames: int,
        stream: int,
    ) -> None:
        """A map, to which a bias is added first, to bytes."""
        self._call("magvit_cuda_bytes", features, bias, rounding, frames, stream)

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
    features, options = MapStructure, ctypes.POINTER(GroupNormOptions)
    launches: dict[str, tuple[Any, ...]] = {
        "pixels": (pointer, real, real, features),
        "unfolded_pixels": (pointer, real, real, Window, features),
        "statistics": (features, Addends, features, options, pointer, pointer),
        "apply": (features, Addends, ctypes.c_int, options, pointer, features),
        "conv": (features, pointer, number, Addends, features, options, pointer),
        "channels_first": (features, pointer),
        "lfq": (features, pointer),
        "codebook_argmax": (features, pointer, number, pointer, pointer, pointer),
        "lfq_codes": (pointer, features),
        "codebook_rows": (pointer, pointer, number, features),
        "channel_vectors": (features, ChannelStatistic, ChannelStatistic, number),
        "depth_to_space": (features, pointer, Triple, features),
        "repeat": (features, number, number, features),
        "attention": (features, features, features, AttentionBiases, features, pointer),
        "bytes": (features, pointer, Rounding, pointer),
    }
    for name, arguments in launches.items():
        getattr(library, f"magvit_cuda_{name}").argtypes = (*arguments, pointer)  # the stream
    sizes: dict[str, tuple[Any, ...]] = {
        "workspace": (features, number),
        "codebook_workspace": (features,),
        "attention_workspace": (features,),
    }
    for name, arguments in sizes.items():
        function = getattr(library, f"magvit_cuda_{name}_bytes")
        function.argtypes, function.restype = arguments, number
    library.magvit_cuda_conv_fits.argtypes = (features, features, number)
    library.magvit_cuda_error_message.argtypes = (ctypes.c_int32,)
    library.magvit_cuda_error_message.restype = ctypes.c_char_p
    return library
