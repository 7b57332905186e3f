"""One worker on a GPU: its stream, and for each shape its memory and CUDA graphs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.backend import Array
from magvit_runtime.backends.native.arena import plan_arena
from magvit_runtime.backends.native.cuda.launches import LoadedProgram, Places, bind_launches
from magvit_runtime.backends.native.cuda.schedule import (
    Schedule,
    Workspaces,
    plan_schedule,
)
from magvit_runtime.cuda.arrays import DeviceArray, DeviceView
from magvit_runtime.cuda.memory import (
    DeviceBuffer,
    StagedBuffer,
    copy_on_device,
    tensor_bytes,
)
from magvit_runtime.cuda.shaped_run import ShapedRun
from magvit_runtime.cuda.stage_times import StageClock
from magvit_runtime.types import Shape

# Two are usual: the full batch, and single clips. Each has its own memory.
SHAPES_KEPT = 4


class CudaWorker:
    """Runs one batch at a time; at most one thread may use it at once.

    A new shape is planned and allocated on its first run. Its second run is captured into a CUDA
    graph, and from then on a run allocates nothing in CUDA. A batch that fits into a known size
    runs in the memory of that size. The other clips there are zeros or those of an earlier run.
    They don't change the results, because no operator mixes clips.
    """

    def __init__(self, loaded: LoadedProgram) -> None:
        self._loaded = loaded
        self._shapes: OrderedDict[Shape, _Shape] = OrderedDict()
        self._stream = loaded.device.new_stream()
        self._queue = loaded.convs.open_queue(self._stream)
        self._clock = StageClock(loaded.device, self._stream, loaded.stage_times)

    @property
    def stream(self) -> Any:
        """The stream that all of its work goes to."""
        return self._stream

    def run(self, clips: NDArray[Any], outputs: Sequence[str]) -> list[Array]:
        """Outputs by the program's names, as arrays that are the caller's.

        `clips` is the program's input, uint8 [N, T, H, W, 3] or int32 [N, t, h, w, 1].

        Outputs that nobody asked for are neither written channels-first nor copied.
        """
        shape = self._shape(self._loaded.batches.fitting(clips.shape))
        results = [shape.result(name, len(clips)) for name in outputs]
        try:
            self._clock.begin()
            shape.input.upload(clips, self._stream)
            self._clock.mark()
            shape.launch(outputs)
            self._clock.mark()
            for buffer, sizes, dtype in results:
                buffer.download(sizes, dtype, self._stream)
            self._clock.mark()
        finally:
            # Also after an error: the next run writes into the buffers that this one reads.
            self._loaded.device.synchronize(self._stream)
        self._clock.finish()
        return [buffer.array(sizes, dtype) for buffer, sizes, dtype in results]

    def run_device(self, clips: DeviceView, outputs: Sequence[str]) -> list[DeviceArray]:
        """As `run`, for clips on the GPU; returns when the results are complete.

        Clips and results are copied on the GPU, because CUDA graphs hold the addresses that they
        were captured with. The copies take microseconds.
        """
        device, stream = self._loaded.device, self._stream
        shape = self._shape(self._loaded.batches.fitting(clips.shape))
        results = []
        try:
            size = tensor_bytes(clips.shape, clips.dtype)
            copy_on_device(device, shape.input.on_device.pointer, clips.pointer, size, stream)
            shape.launch(outputs)
            for name in outputs:
                buffer, sizes, dtype = shape.result(name, clips.shape[0])
                result = DeviceArray.empty(self._loaded.results, sizes, dtype, stream)
                source, size = buffer.on_device.pointer, tensor_bytes(sizes, dtype)
                copy_on_device(device, result.pointer, source, size, stream)
                results.append(result)
        finally:
            device.synchronize(stream)
        return results

    def rehearse(self, clips: Shape) -> None:
        """Runs exactly this shape on whatever clips are in memory, with and without maps."""
        outputs = self._loaded.program.outputs
        shape = self._shape(clips)
        try:
            shape.launch([output.name for output in outputs if not output.is_map])
            shape.launch([output.name for output in outputs])
        finally:
            self._loaded.device.synchronize(self._stream)

    def close(self) -> None:
        """Frees everything, users before what they use."""
        while self._shapes:
            self._shapes.popitem()[1].close()
        self._clock.close()
        self._loaded.convs.close_queue(self._queue)
        self._loaded.device.call("cudaStreamDestroy", self._stream)

    def _shape(self, clips: Shape) -> _Shape:
        if clips in self._shapes:
            self._shapes.move_to_end(clips)
            return self._shapes[clips]
        while len(self._shapes) >= SHAPES_KEPT:
            self._shapes.popitem(last=False)[1].close()
        self._shapes[clips] = _Shape(self._loaded, clips, self._stream, self._queue)
        self._loaded.batches.add(clips)
        return self._shapes[clips]


class _Shape:
    """The memory of one shape, and its runs: with the maps among the outputs, and without."""

    def __init__(self, loaded: LoadedProgram, clips: Shape, stream: Any, queue: Any) -> None:
        operators = loaded.operators
        workspaces = Workspaces(
            moments=lambda features, groups: operators.workspace_bytes(features.at(0), groups),
            products=lambda queries: operators.attention_workspace_bytes(queries.at(0)),
            search=lambda latents: operators.codebook_workspace_bytes(latents.at(0)),
        )
        program, device, batch = loaded.program, loaded.device, clips[0]
        (source,) = program.inputs
        dtype = np.dtype(source.dtype)
        _, t, h, w, c = clips
        shapes = program.shapes({source.name: (t, h, w, c)})
        schedule = plan_schedule(
            program, batch, shapes, loaded.precision, loaded.convs.plan, workspaces
        )
        self._outputs = {
            output.name: (output.shape(batch, shapes[output.value]), np.dtype(output.dtype))
            for output in program.outputs
        }
        self._maps = {output.name for output in program.outputs if output.is_map}
        arena = plan_arena(schedule.buffers)
        with ExitStack() as memory:

            def staged(shape: Shape, dtype: np.dtype[Any]) -> StagedBuffer:
                buffer = StagedBuffer(device, tensor_bytes(shape, dtype))
                memory.callback(buffer.close)
                return buffer

            block = DeviceBuffer(device, arena.size)
            memory.callback(block.close)
            self.input = staged(clips, dtype)
            self._staged = {name: staged(*output) for name, output in self._outputs.items()}
            # Zeros for borders, which no step writes, and for clips, in runs of fewer of them.
            device.call("cudaMemsetAsync", block.pointer, 0, arena.size, stream)
            pointer, size = self.input.on_device.pointer, tensor_bytes(clips, dtype)
            device.call("cudaMemsetAsync", pointer, 0, size, stream)
            outputs = {o: self._staged[o.name].on_device.pointer for o in program.outputs}
            places = Places(
                buffers={name: block.pointer + start for name, start in arena.offsets.items()},
                inputs={source.name: pointer},
                outputs={o.value: address for o, address in outputs.items()},
                stream=int(stream),
                queue=queue,
            )
            self._with_maps = self._new_run(loaded, schedule, places)
            memory.callback(self._with_maps.close)
            others = {o.value: address for o, address in outputs.items() if not o.is_map}
            self._without_maps = self._new_run(loaded, schedule, replace(places, outputs=others))
            memory.callback(self._without_maps.close)
            self._memory = memory.pop_all()

    def launch(self, outputs: Sequence[str]) -> None:
        """Starts the run that makes these outputs."""
        has_maps = not self._maps.isdisjoint(outputs)
        (self._with_maps if has_maps else self._without_maps).launch()

    def result(self, name: str, count: int) -> tuple[StagedBuffer, Shape, np.dtype[Any]]:
        """The address of an output, and its shape and type for the first `count` clips."""
        (_, *sizes), dtype = self._outputs[name]
        return self._staged[name], (count, *sizes), dtype

    def close(self) -> None:
        """Frees the graphs, then the memory."""
        self._memory.close()

    def _new_run(self, loaded: LoadedProgram, schedule: Schedule, places: Places) -> ShapedRun:
        launches = bind_launches(loaded, schedule, places)

        def enqueue() -> None:
            for launch in launches:
                launch()

        shapes = {name: shape for name, (shape, _) in self._outputs.items()}
        return ShapedRun(enqueue, shapes, loaded.device, places.stream, loaded.launches)
