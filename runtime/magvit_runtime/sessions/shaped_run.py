"""Runs of one set of input shapes: a plain launch, and then a CUDA graph.

Not run on a GPU yet.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from magvit_runtime.errors import BackendError
from magvit_runtime.sessions.cuda_device import CudaDevice
from magvit_runtime.sessions.engine_tensors import EngineTensors, Shape
from magvit_runtime.sessions.tensorrt_log import take_error

_LOG = logging.getLogger("magvit_runtime.sessions")


@dataclass
class LaunchMode:
    """How the runs of a session reach the GPU; shared by its workers.

    Attributes:
        captures: Whether shapes that come again are captured into CUDA graphs by us.
        description: For people to read.
    """

    captures: bool
    description: str
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def give_up(self, reason: str) -> None:
        """Captures no more graphs, and says why, once."""
        with self._lock:
            if self.captures:
                self.captures = False
                self.description = f"plain launches: capture into a CUDA graph failed: {reason}"
                _LOG.warning("%s", self.description)


class ShapedRun:
    """Work bound to one set of input shapes and to the buffers of its worker.

    The first launch is plain, which lets libraries finish what the new shapes ask for; the second
    is captured into a CUDA graph; from then on the graph is replayed.

    Args:
        enqueue: Puts the work on the stream.
        output_shapes: Shapes of the outputs.
        device: The GPU.
        stream: The worker's.
        launches: How runs reach the GPU.
    """

    def __init__(
        self,
        enqueue: Callable[[], None],
        output_shapes: dict[str, Shape],
        device: CudaDevice,
        stream: Any,
        launches: LaunchMode,
    ) -> None:
        self.output_shapes = output_shapes
        self._enqueue = enqueue
        self._device = device
        self._stream = stream
        self._launches = launches
        self._is_warm = False
        self._graph: Any = None

    def launch(self) -> None:
        """Starts one run on the worker's stream."""
        if self._graph is None and self._is_warm and self._launches.captures:
            self._graph = self._capture()
        if self._graph is None:
            self._enqueue()
            self._is_warm = True
        else:
            self._device.call("cudaGraphLaunch", self._graph, self._stream)

    def close(self) -> None:
        """Frees the graph. No run may be under way."""
        if self._graph is not None:
            graph, self._graph = self._graph, None
            self._device.call("cudaGraphExecDestroy", graph)

    def _capture(self) -> Any:
        """An executable graph of one run; None where capture fails, which the mode then says."""
        device = self._device
        # "Thread local": what other threads do meanwhile, as allocating, doesn't break the capture.
        mode = device.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        try:
            device.call("cudaStreamBeginCapture", self._stream, mode)
            graph = self._end_capture()
            try:
                return device.call("cudaGraphInstantiate", graph, 0)
            finally:
                device.call("cudaGraphDestroy", graph)
        except BackendError as error:
            self._launches.give_up(str(error.found or error))
            # The error is dealt with; unread, it would meet the next call.
            device.runtime.cudaGetLastError()
            return None

    def _end_capture(self) -> Any:
        try:
            self._enqueue()
        except BackendError:
            # The stream must leave capture, whose own failure adds nothing.
            self._device.runtime.cudaStreamEndCapture(self._stream)
            raise
        return self._device.call("cudaStreamEndCapture", self._stream)


def set_shapes(
    context: Any, tensors: EngineTensors, shapes: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Sets the input shapes of a context, and returns the output shapes that follow."""
    for name, shape in shapes.items():
        if not context.set_input_shape(name, shape):
            raise BackendError(f"TensorRT refuses shape {shape} for {name!r}", found=take_error())
    found = {name: tuple(context.get_tensor_shape(name)) for name in tensors.outputs}
    for name, shape in found.items():
        if min(shape, default=1) < 0:
            raise BackendError(
                f"the shape of output {name!r} doesn't follow from the inputs'", found=shape
            )
    return found


def set_addresses(context: Any, addresses: Mapping[str, int]) -> None:
    """Tells a context where its tensors lie on the GPU."""
    for name, address in addresses.items():
        if not context.set_tensor_address(name, address):
            raise BackendError(f"TensorRT can't bind tensor {name!r}", found=take_error())


def enqueue(context: Any, stream: Any) -> None:
    """Starts one run of a context on a stream."""
    if not context.execute_async_v3(int(stream)):
        raise BackendError(
            "TensorRT can't run the engine",
            found=take_error(),
            mend="`magvit doctor` says whether engine, plugins and GPU fit",
        )
