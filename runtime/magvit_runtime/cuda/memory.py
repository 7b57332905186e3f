"""GPU memory of a session: buffers that live as long as a worker, and blocks that results own."""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np

from magvit_runtime.cuda.device import CudaDevice
from magvit_runtime.errors import BackendError
from magvit_runtime.types import Array

# `cudaStreamLegacy`, the stream that CUDA code uses by default.
LEGACY_STREAM = 1


def tensor_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of a contiguous tensor."""
    return math.prod(shape) * dtype.itemsize


def copy_on_device(device: CudaDevice, to: int, source: int, size: int, stream: Any) -> None:
    """Starts a copy of `size` bytes from one address on the GPU to another."""
    kind = device.runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
    device.call("cudaMemcpyAsync", to, source, size, kind, stream)


class DeviceBuffer:
    """A block of GPU memory."""

    def __init__(self, device: CudaDevice, size: int) -> None:
        self._device = device
        self.size = size
        # CUDA returns null for 0 bytes, and TensorRT takes no null address.
        self.pointer: int = int(device.call("cudaMalloc", max(size, 1)))

    def close(self) -> None:
        """Frees it. No work that uses it may be under way."""
        if self.pointer:
            pointer, self.pointer = self.pointer, 0
            self._device.call("cudaFree", pointer)


class StagedBuffer:
    """A block of GPU memory with page-locked host memory of the same size beside it.

    A copy runs in parallel with other work of the GPU only if the host memory is page-locked.
    """

    def __init__(self, device: CudaDevice, size: int) -> None:
        self._device = device
        self.on_device = DeviceBuffer(device, size)
        self._host: int = int(device.call("cudaMallocHost", max(size, 1)))
        self._bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self._host))

    def upload(self, array: Array, stream: Any) -> None:
        """Puts an array on the GPU, in C order; `array` may be changed once this returns."""
        kind = self._device.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        size = tensor_bytes(array.shape, array.dtype)
        np.copyto(self._view(array.shape, array.dtype), array)
        self._device.call("cudaMemcpyAsync", self.on_device.pointer, self._host, size, kind, stream)

    def download(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: Any) -> None:
        """Starts the copy to the host; `array` gives the result once the stream is done."""
        kind = self._device.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        size = tensor_bytes(shape, dtype)
        self._device.call("cudaMemcpyAsync", self._host, self.on_device.pointer, size, kind, stream)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A copy of the last `download`."""
        return self._view(shape, dtype).copy()

    def close(self) -> None:
        """Frees both blocks. No work that uses them may be under way."""
        self.on_device.close()
        if self._host:
            self._bytes = np.empty(0, np.uint8)
            host, self._host = self._host, 0
            self._device.call("cudaFreeHost", host)

    def _view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        view: Array = self._bytes[: tensor_bytes(shape, dtype)].view(dtype).reshape(shape)
        return view


class ResultMemory:
    """The pool that device results come from, so that a new result needs no driver call.

    Blocks may outlive the pool: CUDA destroys a pool once its last block is free.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._pool: Any = None
        self._lock = threading.Lock()

    def allocate(self, size: int, stream: Any) -> DeviceBlock:
        """A block that `stream` may use at once, and other streams once `stream` is done."""
        with self._lock:
            if self._pool is None:
                self._pool = self._new_pool()
        pointer = self._device.call("cudaMallocFromPoolAsync", max(size, 1), self._pool, stream)
        return DeviceBlock(self._device, int(pointer))

    def close(self) -> None:
        """Gives the pool back to CUDA."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            self._device.call("cudaMemPoolDestroy", pool)

    def _new_pool(self) -> Any:
        cuda = self._device.runtime
        properties = cuda.cudaMemPoolProps()
        properties.allocType = cuda.cudaMemAllocationType.cudaMemAllocationTypePinned
        properties.location.type = cuda.cudaMemLocationType.cudaMemLocationTypeDevice
        properties.location.id = self._device.ordinal
        pool = self._device.call("cudaMemPoolCreate", properties)
        keep_all = import_module("cuda.bindings.driver").cuuint64_t(2**64 - 1)
        threshold = cuda.cudaMemPoolAttr.cudaMemPoolAttrReleaseThreshold
        self._device.call("cudaMemPoolSetAttribute", pool, threshold, keep_all)
        return pool


class DeviceBlock:
    """A block of GPU memory that is freed when nothing refers to it any more.

    It is freed in the order of the legacy default stream. If another stream still uses it, keep a
    reference until that work is over. torch has the same rule for tensors that are used on a second
    stream.
    """

    def __init__(self, device: CudaDevice, pointer: int) -> None:
        self.pointer = pointer
        self.device_ordinal = device.ordinal
        # At the interpreter's exit the process releases all memory anyway.
        weakref.finalize(self, _free, device, pointer).atexit = False


def _free(device: CudaDevice, pointer: int) -> None:
    # A finalizer can run in any thread, and no caller could handle its failure.
    with suppress(BackendError), device.current():
        device.call("cudaFreeAsync", pointer, LEGACY_STREAM)
