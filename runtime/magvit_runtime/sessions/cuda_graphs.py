"""Captures work into CUDA graphs.

Not run on a GPU yet.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from magvit_runtime.sessions.cuda_device import CudaDevice

# The garbage collector is one for the whole process, so captures take turns at holding it off.
_CAPTURING = threading.Lock()


def capture(device: CudaDevice, stream: Any, enqueue: Callable[[], None]) -> Any:
    """Captures work into an executable CUDA graph, which the caller destroys.

    Args:
        device: The GPU.
        stream: The stream that `enqueue` puts the work on; nothing may run there meanwhile.
        enqueue: Puts the work on the stream.

    Raises:
        BackendError: The work can't be captured. The stream can be used as before, as it can after
            whatever `enqueue` itself raises.
    """
    # "Thread local": what other threads do meanwhile, as allocating, doesn't break the capture.
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
        # Left unread, CUDA's error would meet the next call.
        device.runtime.cudaGetLastError()
        raise


def _end_capture(device: CudaDevice, stream: Any, enqueue: Callable[[], None]) -> Any:
    try:
        enqueue()
    except BaseException:
        # The stream must leave capture, whose own failure adds nothing.
        device.runtime.cudaStreamEndCapture(stream)
        raise
    return device.call("cudaStreamEndCapture", stream)


@contextmanager
def _garbage_collector_held_off() -> Iterator[None]:
    """Keeps Python from destroying what lies in reference cycles meanwhile.

    Objects of CUDA libraries lie in such cycles, and to free their GPU memory breaks a capture.
    """
    with _CAPTURING:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()
