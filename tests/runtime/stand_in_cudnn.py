"""A stand-in GPU for the native backend: NumPy's convs, and our CUDA kernels run on the CPU.

`libmagvit_cuda_on_cpu.so` is built of the very sources of libmagvit_cuda.so (tests/kernels). Both
keep CUDA's order: while a stream is being captured, nothing runs but the graph that is replayed.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime.stand_in_gpu import Cuda

from magvit_runtime.backends.native.cuda.conv_plans import (
    OWN_ENGINE,
    ConvGeometry,
    ConvPlan,
    Padding,
)
from magvit_runtime.native_libraries.cuda_operators import CudaOperators, declare
from magvit_runtime.native_libraries.lookup import LIBRARY_DIR_VARIABLE

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = "libmagvit_cuda_on_cpu.so"


def load_operators_on_cpu() -> ctypes.CDLL:
    """The CUDA operators as functions of the CPU; skips the test if they weren't built."""
    folders = [Path(os.environ[LIBRARY_DIR_VARIABLE])] if LIBRARY_DIR_VARIABLE in os.environ else []
    for folder in (*folders, *sorted(REPOSITORY.glob("build/**/lib"))):
        if (folder / LIBRARY).is_file():
            return declare(ctypes.CDLL(str(folder / LIBRARY)))
    pytest.skip(f"{LIBRARY} is not there: cmake -B build/ctest && cmake --build build/ctest (nvcc)")


def operators_on(cuda: Cuda) -> CudaOperators:
    """The CUDA operators on the stand-in's streams."""
    return CudaOperators(_OnStreams(load_operators_on_cpu(), cuda))


class _OnStreams:
    """A library whose launches, whose last argument is the stream, go through the stand-in."""

    def __init__(self, library: ctypes.CDLL, cuda: Cuda) -> None:
        self._library = library
        self._cuda = cuda
        # On the CPU a kernel's threadIdx and shared memory are variables of the process.
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._library, name)
        if name.endswith(("_workspace_bytes", "_error_message", "_conv_fits")):
            return function

        def run(*arguments: Any) -> int:
            with self._lock:
                status: int = function(*arguments)
                return status

        def launch(*arguments: Any) -> int:
            if arguments[-1] in self._cuda.captured:
                self._cuda.submit(arguments[-1], lambda: run(*arguments))
                return 0
            return run(*arguments)

        return launch


class NumpyConvs:
    """Convs on host memory, with the plans that a test wants.

    `padding_of` says how a conv has its zeros; plans ask for a workspace, which is written to.
    `is_own` says which convs our own kernel runs.
    """

    def __init__(
        self,
        cuda: Cuda,
        padding_of: Callable[[ConvGeometry], Padding],
        is_own: Callable[[ConvGeometry], bool] = lambda _: False,
    ) -> None:
        self._cuda = cuda
        self._padding_of = padding_of
        self._is_own = is_own
        self.planned: list[ConvGeometry] = []
        self.queues: set[int] = set()

    def open_queue(self, stream: int) -> int:
        self.queues.add(stream)
        return stream

    def close_queue(self, queue: int) -> None:
        self.queues.remove(queue)

    def plan(self, geometry: ConvGeometry) -> ConvPlan:
        self.planned.append(geometry)
        if self._is_own(geometry):
            return ConvPlan("implied", OWN_ENGINE, {}, 0, 1.0)
        return ConvPlan(self._padding_of(geometry), 0, {}, 1000, 1.0)

    def enqueue(
        self,
        geometry: ConvGeometry,
        queue: int,
        *,
        image: int,
        weight: int,
        output: int,
        workspace: int,
    ) -> None:
        assert queue in self.queues
        dtype = np.dtype(np.float16 if geometry.precision == "fp16" else np.float32)

        def at(address: int, shape: tuple[int, ...]) -> NDArray[Any]:
            size = int(np.prod(shape)) * dtype.itemsize
            assert self._cuda.owns(address, size)
            return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(
                shape
            )

        has_border = self._padding_of(geometry) == "border"
        sizes = geometry.padded_sizes if has_border else geometry.sizes
        source = at(image, (geometry.batch, *sizes, geometry.in_channels))
        kernel = at(weight, (geometry.out_channels, *geometry.kernel, geometry.in_channels))
        result = at(output, (geometry.batch, *geometry.output_sizes, geometry.out_channels))
        scratch = at(workspace, (1000 // dtype.itemsize,))

        def compute() -> None:
            pads = (
                [(0, 0)] * 3
                if has_border
                else zip(geometry.pads_before, geometry.pads_after, strict=True)
            )
            padded = np.pad(source, [(0, 0), *pads, (0, 0)]).astype(np.float32)
            scratch[:] = np.nan
            result[:] = conv(padded.astype(np.float32), kernel.astype(np.float32), geometry.stride)

        self._cuda.submit(queue, compute)

    def close(self) -> None:
        assert not self.queues


def conv(padded: NDArray[Any], kernel: NDArray[Any], stride: tuple[int, int, int]) -> NDArray[Any]:
    """[N, T, H, W, C_in] by [C_out, kt, kh, kw, C_in], with no padding."""
    sizes = [
        (n - k) // s + 1
        for n, k, s in zip(padded.shape[1:4], kernel.shape[1:4], stride, strict=True)
    ]
    total = np.zeros((padded.shape[0], *sizes, kernel.shape[0]), padded.dtype)
    for tap in itertools.product(*map(range, kernel.shape[1:4])):
        window = tuple(
            slice(start, start + (n - 1) * s + 1, s)
            for start, n, s in zip(tap, sizes, stride, strict=True)
        )
        total += padded[(slice(None), *window)] @ kernel[(slice(None), *tap)].T
    return total
