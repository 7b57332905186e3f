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
from magvit_runtime.sessions.cuda_graphs import capture
from magvit_runtime.sessions.engine_tensors import EngineTensors, Shape
from magvit_runtime.sessions.tensorrt_log import take_error

_LOG = logging.getLogger("magvit_runtime.sessions")

# A shape whose captures fail pauses before the next ever longer, and at most so long.
_MOST_PLAIN_RUNS = 1000


@dataclass
class LaunchMode:
    """How the runs of a session reach the GPU; shared by its workers.

    Attributes:
        captures: Whether shapes that come again are captured into CUDA graphs by us.
        graphs: What `description` says while captures work.
    """

    captures: bool
    graphs: str
    _failure: str = field(default="", repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def description(self) -> str:
        """How runs reach the GPU by now, for people to read."""
        return self._failure or self.graphs

    def note_failure(self, reason: str) -> None:
        """The last capture failed; each new reason is logged once."""
        failure = f"plain launches: capture into a CUDA graph failed: {reason}"
        with self._lock:
            if failure != self._failure:
                self._failure = failure
                _LOG.warning("%s", failure)

    def note_success(self) -> None:
        """The last capture worked."""
        with self._lock:
            self._failure = ""


class ShapedRun:
    """Work bound to one set of input shapes and to the buffers of its worker.

    The first launch is plain, which lets libraries finish what the new shapes ask for; the second
    is captured into a CUDA graph; from then on the graph is replayed. Where the capture fails, the
    launch is plain, and the next one tries again.

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
        # Plain launches before the next capture is tried, and after the next that fails.
        self._plain_runs_left = self._pause = 0

    def launch(self) -> None:
        """Starts one run on the worker's stream."""
        if self._graph is None and self._is_warm and self._launches.captures:
            self._try_capture()
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

    def _try_capture(self) -> None:
        """Captures the run, unless it failed too often of late; the mode says how it went."""
        if self._plain_runs_left > 0:
            self._plain_runs_left -= 1
            return
        try:
            self._graph = capture(self._device, self._stream, self._enqueue)
            self._launches.note_success()
        except BackendError as error:
            self._launches.note_failure(str(error.found or error))
            self._plain_runs_left = self._pause
            self._pause = min(2 * self._pause + 1, _MOST_PLAIN_RUNS)


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
