"""One worker of an encoder on a GPU: its stream, and for each shape its memory and CUDA graph."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.native.arena import plan_arena
from magvit_runtime.native.cuda_launches import LoadedProgram, Places, bind_launches
from magvit_runtime.native.cuda_operators import CudaMap
from magvit_runtime.native.cuda_schedule import plan_schedule
from magvit_runtime.sessions.device_memory import DeviceBuffer, StagedBuffer, tensor_bytes
from magvit_runtime.sessions.shaped_run import ShapedRun
from magvit_runtime.sessions.stage_times import StageClock

# Two are usual: the full batch and the rest of the last one. Each has memory of its own.
SHAPES_KEPT = 4

_BYTES, _IDS, _LATENTS = np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.float32)


class CudaWorker:
    """Runs one batch at a time; at most one thread may use it at once.

    A new shape is planned and allocated when it comes first; its second run is captured into a
    CUDA graph, and from then on a run takes nothing from CUDA.
    """

    def __init__(self, loaded: LoadedProgram) -> None:
        self._loaded = loaded
        self._shapes: OrderedDict[tuple[int, ...], _Shape] = OrderedDict()
        self._stream = loaded.device.new_stream()
        self._queue = loaded.convs.open_queue(self._stream)
        self._clock = StageClock(loaded.device, self._stream, loaded.stage_times)

    def run(self, clips: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Int32 ids [N, t, h, w] and float32 latents [N, C, t, h, w] of uint8 [N, T, H, W, 3]."""
        shape = self._shape(clips.shape)
        ids, latents = (shape.run.output_shapes[name] for name in ("ids", "latents"))
        try:
            self._clock.begin()
            shape.frames.upload(clips, self._stream)
            self._clock.mark()
            shape.run.launch()
            self._clock.mark()
            shape.ids.download(ids, _IDS, self._stream)
            shape.latents.download(latents, _LATENTS, self._stream)
            self._clock.mark()
        finally:
            # Also after an error: the next run writes into the buffers that this one reads.
            self._loaded.device.synchronize(self._stream)
        self._clock.finish()
        return shape.ids.array(ids, _IDS), shape.latents.array(latents, _LATENTS)

    def close(self) -> None:
        """Frees everything, what uses a thing before the thing itself."""
        while self._shapes:
            self._shapes.popitem()[1].close()
        self._clock.close()
        self._loaded.convs.close_queue(self._queue)
        self._loaded.device.call("cudaStreamDestroy", self._stream)

    def _shape(self, shape: tuple[int, ...]) -> _Shape:
        if shape in self._shapes:
            self._shapes.move_to_end(shape)
            return self._shapes[shape]
        while len(self._shapes) >= SHAPES_KEPT:
            self._shapes.popitem(last=False)[1].close()
        self._shapes[shape] = _Shape(self._loaded, shape, self._stream, self._queue)
        return self._shapes[shape]


class _Shape:
    """The memory of one shape, and its run."""

    def __init__(
        self, loaded: LoadedProgram, shape: tuple[int, ...], stream: Any, queue: Any
    ) -> None:
        def moments_size(features: CudaMap, groups: int) -> int:
            return loaded.operators.workspace_bytes(features.at(0), groups)

        batch, frames, height, width, _ = shape
        sizes = frames, height, width
        schedule = plan_schedule(
            loaded.program, batch, sizes, loaded.precision, loaded.convs.plan, moments_size
        )
        latents = schedule.latents
        outputs = {
            "ids": (batch, *latents.sizes),
            "latents": (batch, latents.channels, *latents.sizes),
        }
        arena = plan_arena(schedule.buffers)
        device = loaded.device
        with ExitStack() as memory:

            def staged(shape: tuple[int, ...], dtype: np.dtype[Any]) -> StagedBuffer:
                buffer = StagedBuffer(device, tensor_bytes(shape, dtype))
                memory.callback(buffer.close)
                return buffer

            block = DeviceBuffer(device, arena.size)
            memory.callback(block.close)
            self.frames = staged(shape, _BYTES)
            self.ids = staged(outputs["ids"], _IDS)
            self.latents = staged(outputs["latents"], _LATENTS)
            # The zeros of borders: no step writes there.
            device.call("cudaMemsetAsync", block.pointer, 0, arena.size, stream)
            places = Places(
                buffers={name: block.pointer + start for name, start in arena.offsets.items()},
                frames=self.frames.on_device.pointer,
                ids=self.ids.on_device.pointer,
                latents=self.latents.on_device.pointer,
                stream=int(stream),
                queue=queue,
            )
            launches = bind_launches(loaded, schedule, places)

            def enqueue() -> None:
                for launch in launches:
                    launch()

            self.run = ShapedRun(enqueue, outputs, device, stream, loaded.launches)
            memory.callback(self.run.close)
            self._memory = memory.pop_all()

    def close(self) -> None:
        """Frees the graph, then the memory."""
        self._memory.close()
