"""Captures work into CUDA graphs."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from magvit_runtime.cuda.device import CudaDevice

# The process has one garbage collector, so captures pause it one after another.
_CAPTURING = threading.Lock()


def capture(device: CudaDevice, stream: Any, enqueue: Callable[[], None]) -> Any:
    """Captures work into an executable CUDA graph, which the caller destroys.

    Args:
        device: The GPU.
        stream: The stream that `enqueue` puts the work on; nothing else may run on it.
        enqueue: Puts the work on the stream.

    Raises:
        BackendError: The work can't be captured. The stream can still be used, also after any error
            of `enqueue` itself.
    """
    # "Thread local": other threads may allocate, for example, without breaking the capture.
    mode = device.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    try:
        with _garbage_collector_held_off():
            device.call("cudaStreamBeginCapture", stream, mode)
            graph = _end_capture(device, stream, enqueue)
        try:
            return device.call("cudaGraphInstantiate", graph, 0)
        finally:
            device.call("cudaGraphDestroy", graph)
    except BaseException:
        # If CUDA's error stays unread, the next call reports it.
        device.runtime.cudaGetLastError()
        raise


def _end_capture(device: CudaDevice, stream: Any, enqueue: Callable[[], None]) -> Any:
    try:
        enqueue()
    except BaseException:
        # The stream must leave capture mode. A failure of this adds nothing to the first error.
        device.runtime.cudaStreamEndCapture(stream)
        raise
    return device.call("cudaStreamEndCapture", stream)


@contextmanager
def _garbage_collector_held_off() -> Iterator[None]:
    """Pauses the garbage collector, so that Python destroys no reference cycles.

    Objects of CUDA libraries are in such cycles, and freeing their GPU memory breaks a capture.
    """
    with _CAPTURING:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()
