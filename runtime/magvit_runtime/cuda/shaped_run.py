"""Runs of one set of input shapes: first a plain launch, then a CUDA graph."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from magvit_runtime.cuda.device import CudaDevice
from magvit_runtime.cuda.graphs import capture
from magvit_runtime.errors import BackendError
from magvit_runtime.types import Shape

_LOG = logging.getLogger(__name__)

# After each failed capture, a shape waits longer before the next one, up to this many runs.
_MOST_PLAIN_RUNS = 1000


@dataclass
class LaunchMode:
    """How the runs of a session reach the GPU; shared by its workers.

    Attributes:
        captures: Whether we capture repeated shapes into CUDA graphs.
        graphs: The text of `description` while captures work.
    """

    captures: bool
    graphs: str
    _failure: str = field(default="", repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def description(self) -> str:
        """How runs now reach the GPU, as text for people."""
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

    The first launch is plain, so that libraries can prepare for the new shapes. The second is
    captured into a CUDA graph. From then on the graph is replayed. If the capture fails, the launch
    is plain, and the next one tries again.

    Args:
        enqueue: Puts the work on the stream.
        output_shapes: Shapes of the outputs.
        device: The GPU.
        stream: The worker's stream.
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
        """Captures the run, unless this failed too often lately; the mode records the result."""
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
