"""How long a run's stages take on the GPU, by CUDA events, if a caller or a trace asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from magvit_runtime import tracing
from magvit_runtime.cuda.device import CudaDevice

STAGES = ("host to device", "compute", "device to host")


@dataclass
class StageTimes:
    """The times of a session's runs, stage by stage; shared by its workers.

    Attributes:
        seconds: Seconds of each of `STAGES`, one row per run. It is None at first, and nothing is
            measured. Set it to an empty list to start measuring.
    """

    seconds: list[tuple[float, ...]] | None = None


class StageClock:
    """The events on one worker's stream.

    Args:
        device: The GPU.
        stream: The worker's stream.
        times: The record that runs are added to.
    """

    def __init__(self, device: CudaDevice, stream: Any, times: StageTimes) -> None:
        self._device = device
        self._stream = stream
        self._times = times
        self._events: list[Any] = []
        self._marked = 0
        self._is_traced = False

    def begin(self) -> None:
        """Marks the start of a run."""
        self._marked = 0
        self._is_traced = tracing.is_on()
        self.mark()

    def mark(self) -> None:
        """Marks the end of a stage."""
        if self._times.seconds is None and not self._is_traced:
            return
        if self._marked == len(self._events):
            self._events.append(self._device.call("cudaEventCreateWithFlags", 0))
        self._device.call("cudaEventRecord", self._events[self._marked], self._stream)
        self._marked += 1

    def finish(self) -> None:
        """Records a run whose stages were all marked, once the stream is done with them."""
        if self._marked != len(STAGES) + 1:
            return
        milliseconds = (
            self._device.call("cudaEventElapsedTime", begin, end)
            for begin, end in pairwise(self._events)
        )
        seconds = tuple(value / 1000 for value in milliseconds)
        if self._times.seconds is not None:
            self._times.seconds.append(seconds)
        if self._is_traced:
            tracing.past_stages([stage.replace(" ", "_") for stage in STAGES], seconds)

    def close(self) -> None:
        """Frees the events."""
        while self._events:
            self._device.call("cudaEventDestroy", self._events.pop())
