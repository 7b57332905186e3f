"""The fused convs of libmagvit_operators.so, laid out for this CPU, and the threads they run on.

kernels/include/magvit/operators.h says what each does.
"""

from __future__ import annotations

import ctypes

import numpy as np

from magvit_runtime.backends.native.cpu.maps import FeatureMap, Moments
from magvit_runtime.backends.native.program import Conv, Normalization
from magvit_runtime.closing import freed_with
from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.convs import (
    ConvCall,
    ConvOptions,
    FeatureMapStructure,
    NormalizationStructure,
    load_convs,
)
from magvit_runtime.native_libraries.operators import ACTIVATIONS


class ThreadPool:
    """Threads for convs. One conv at a time uses them; others wait.

    Args:
        threads: How many, the caller's included; None is one for each CPU.

    Raises:
        BackendError: The library is missing or of another version.
    """

    def __init__(self, threads: int | None) -> None:
        self._library = load_convs()
        self._handle: int | None = self._library.magvit_pool_create(threads or 0)
        if self._handle is None:
            raise BackendError("there is no memory for a pool of threads")
        self._free = freed_with(self, self._library.magvit_pool_destroy, self._handle)

    @property
    def handle(self) -> int:
        """`magvit_pool*`.

        Raises:
            BackendError: The pool is closed.
        """
        if self._handle is None:
            raise BackendError("this pool of threads is closed")
        return self._handle

    @property
    def threads(self) -> int:
        """Threads that one conv uses."""
        return int(self._library.magvit_pool_threads(self.handle))

    def close(self) -> None:
        """Ends the threads, as dropping the pool does. No conv may be running."""
        self._handle = None
        self._free()


class CpuConv:
    """One conv of a program, its weights laid out for this CPU.

    Args:
        conv: The conv, of float32 weights.
        pool: Threads that lay out the weights.

    Raises:
        BackendError: The library refuses it, or memory is short.
    """

    def __init__(self, conv: Conv, pool: ThreadPool) -> None:
        self._library = load_convs()
        self._name = conv.name
        weights = np.ascontiguousarray(conv.weight)
        bias = None if conv.bias is None else np.ascontiguousarray(conv.bias)
        triple = ctypes.c_int64 * 3
        options = ConvOptions(
            conv.weight.shape[1],
            conv.weight.shape[0],
            triple(*conv.kernel),
            triple(*conv.stride),
            triple(*conv.pads_before),
            weights.ctypes.data,
            None if bias is None else bias.ctypes.data,
        )
        handle = ctypes.c_void_p()
        self._check(
            self._library.magvit_conv_create(
                ctypes.byref(options), pool.handle, ctypes.byref(handle)
            )
        )
        self._handle: ctypes.c_void_p | None = handle
        self._free = freed_with(self, self._library.magvit_conv_destroy, handle)

    def run(
        self,
        pool: ThreadPool,
        source: FeatureMap,
        target: FeatureMap,
        *,
        normalization: Normalization | None,
        moments: Moments | None,
        residual: FeatureMap | None,
        groups: int | None,
    ) -> Moments | None:
        """Runs it: target = conv(activation(normalize(source))) + bias + residual.

        Args:
            pool: Its threads.
            source: What it reads.
            target: What it writes; its sizes say how far the padding at the end goes.
            normalization: How the source is read; None reads it unchanged.
            moments: The source's moments, if it is normalized.
            residual: Added to the result. Its values may be the target's.
            groups: Number of groups of the target's channels whose moments are wanted, or None.

        Returns:
            The moments, if they are wanted.

        Raises:
            BackendError: The maps don't fit.
        """
        structs = [structure_of(m) if m is not None else None for m in (source, residual, target)]
        reading = None
        if normalization is not None and moments is not None:
            # Kept in a local until the call is over: the structure holds addresses only.
            arrays = moments.normalize(normalization)
            reading = NormalizationStructure(
                *(array.ctypes.data for array in arrays), ACTIVATIONS[normalization.activation]
            )
        results = np.empty((groups or 0, 2))
        counts = None if target.background is None else target.background.counts
        call = ConvCall(
            input=_address(structs[0]),
            normalization=_address(reading),
            residual=_address(structs[1]),
            output=_address(structs[2]),
            background_counts=None if counts is None else counts.ctypes.data,
            groups=groups or 0,
            moments=results.ctypes.data if groups else None,
        )
        self._check(self._library.magvit_conv_run(self._handle, ctypes.byref(call), pool.handle))
        return Moments(results) if groups else None

    def close(self) -> None:
        """Frees the weights, as dropping the conv does."""
        self._handle = None
        self._free()

    def _check(self, status: int) -> None:
        if status != 0:
            message = self._library.magvit_status_message(status).decode()
            raise BackendError(f"the native backend can't run {self._name}", found=message)


def instruction_set() -> str:
    """The instruction set that convs use on this CPU: "avx512", "avx2" or "portable".

    Raises:
        BackendError: The library is missing or of another version.
    """
    name: bytes = load_convs().magvit_instruction_set()
    return name.decode()


def structure_of(feature_map: FeatureMap) -> FeatureMapStructure:
    """`struct magvit_feature_map`; it holds addresses, not the map."""
    frames, height, width, pitch = feature_map.values.shape
    structure = FeatureMapStructure(
        feature_map.values.ctypes.data, frames, height, width, feature_map.channels, pitch
    )
    background = feature_map.background
    if background is not None:
        structure.first_frames = background.first_frames.ctypes.data
        structure.background = background.values.ctypes.data
        structure.background_height, structure.background_width = background.values.shape[1:3]
    return structure


def _address(structure: ctypes.Structure | None) -> int | None:
    return None if structure is None else ctypes.addressof(structure)
