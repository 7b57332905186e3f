"""One worker of a session: the contexts, stream and buffers that one run uses.

Not run on a GPU yet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from magvit_runtime.backends.backend import Array
from magvit_runtime.backends.trt.contexts import ExecutionContexts
from magvit_runtime.backends.trt.launching import (
    enqueue,
    set_addresses,
    set_profile,
    set_shapes,
)
from magvit_runtime.backends.trt.log import take_error
from magvit_runtime.backends.trt.tensors import EngineTensors
from magvit_runtime.cuda.arrays import DeviceArray, DeviceView
from magvit_runtime.cuda.device import CudaDevice
from magvit_runtime.cuda.memory import (
    DeviceBuffer,
    ResultMemory,
    StagedBuffer,
    tensor_bytes,
)
from magvit_runtime.cuda.shaped_run import LaunchMode, ShapedRun
from magvit_runtime.cuda.stage_times import StageClock, StageTimes
from magvit_runtime.types import Shape

# A worker keeps the contexts and graphs of this many sets of input shapes. Two are usual: the full
# batch, and the smaller last one.
SHAPES_KEPT = 8


@dataclass(frozen=True)
class LoadedEngine:
    """What the workers of a session share.

    Attributes:
        device: The GPU.
        engine: The `ICudaEngine`.
        tensors: Its inputs and outputs.
        contexts: Makes its contexts.
        results: Where device results come from.
        launches: How runs reach the GPU.
        stage_times: GPU times of runs.
    """

    device: CudaDevice
    engine: Any
    tensors: EngineTensors
    contexts: ExecutionContexts
    results: ResultMemory
    launches: LaunchMode
    stage_times: StageTimes


class Worker:
    """Runs one batch at a time; at most one thread may use it at once.

    Everything is allocated for the largest batch when the worker is made. A new set of input shapes
    needs a new context once, of the tightest profile that holds it; a known set needs nothing.
    """

    def __init__(self, loaded: LoadedEngine) -> None:
        self._loaded = loaded
        self._shapes: OrderedDict[tuple[Shape, ...], ShapedRun] = OrderedDict()
        # By the number of a profile, which a context keeps.
        self._any_shape: dict[int, Any] = {}
        self._staged: dict[str, StagedBuffer] = {}
        self._activations: DeviceBuffer | None = None
        self._stream = loaded.device.new_stream()
        self._clock = StageClock(loaded.device, self._stream, loaded.stage_times)
        try:
            self._allocate()
        except BaseException:
            self.close()
            raise

    @property
    def stream(self) -> Any:
        """The stream that all of its work goes to; None once it is closed."""
        return self._stream

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs checked host arrays; the results are copies that the caller owns."""
        tensors, stream = self._loaded.tensors, self._stream
        take_error()
        try:
            shaped = self._shaped({name: inputs[name].shape for name in tensors.inputs})
            self._clock.begin()
            for name in tensors.inputs:
                self._staged[name].upload(inputs[name], stream)
            self._clock.mark()
            shaped.launch()
            self._clock.mark()
            for name in outputs:
                shape = shaped.output_shapes[name]
                self._staged[name].download(shape, tensors.outputs[name], stream)
            self._clock.mark()
        finally:
            # Also after an error: the next run writes into the buffers that this one reads.
            self._loaded.device.synchronize(stream)
        self._clock.finish()
        return [
            self._staged[name].array(shaped.output_shapes[name], tensors.outputs[name])
            for name in outputs
        ]

    def run_device(
        self, inputs: Mapping[str, DeviceView], outputs: Sequence[str]
    ) -> list[DeviceArray]:
        """Runs checked arrays of this GPU in place, and returns when the results are complete.

        The addresses are new each time, so nothing is captured.
        """
        loaded, stream = self._loaded, self._stream
        take_error()
        shapes = {name: inputs[name].shape for name in loaded.tensors.inputs}
        number = loaded.tensors.choose(shapes)
        if number not in self._any_shape:
            context = self._with_activations(loaded.contexts.for_any_shape())
            set_profile(context, number, stream)
            self._any_shape[number] = context
        context = self._any_shape[number]
        output_shapes = set_shapes(context, loaded.tensors, shapes)
        results: dict[str, DeviceArray] = {}
        try:
            addresses = {name: view.pointer for name, view in inputs.items()}
            for name, dtype in loaded.tensors.outputs.items():
                if name in outputs:
                    shape = output_shapes[name]
                    results[name] = DeviceArray.empty(loaded.results, shape, dtype, stream)
                    addresses[name] = results[name].pointer
                else:
                    addresses[name] = self._staged[name].on_device.pointer
            set_addresses(context, addresses)
            enqueue(context, stream)
        finally:
            loaded.device.synchronize(stream)
        return [results[name] for name in outputs]

    def close(self) -> None:
        """Frees everything, users before what they use."""
        if self._stream is None:
            return
        self._loaded.device.synchronize(self._stream)
        while self._shapes:
            self._shapes.popitem()[1].close()
        self._any_shape = {}
        for staged in self._staged.values():
            staged.close()
        self._staged = {}
        if self._activations is not None:
            self._activations.close()
        self._clock.close()
        stream, self._stream = self._stream, None
        self._loaded.device.call("cudaStreamDestroy", stream)

    def _allocate(self) -> None:
        """Makes a context for the largest shapes of each profile, and memory that holds them all.

        A profile has a context of its own: changing that of a context updates its layers at the
        next run.
        """
        loaded, sizes = self._loaded, dict[str, int]()
        made = []
        for number, profile in enumerate(loaded.tensors.profiles):
            context = loaded.contexts.for_one_shape()
            set_profile(context, number, self._stream)
            largest = {name: shapes.maximum for name, shapes in profile.items()}
            found = largest | set_shapes(context, loaded.tensors, largest)
            for name, dtype in (loaded.tensors.inputs | loaded.tensors.outputs).items():
                sizes[name] = max(sizes.get(name, 0), tensor_bytes(found[name], dtype))
            if loaded.tensors.choose(largest) == number:  # Another may be nearer to it.
                made.append((context, largest))
        # Asked for once there is a context: TensorRT-RTX has chosen its kernels by then.
        self._activations = DeviceBuffer(loaded.device, int(loaded.engine.device_memory_size_v2))
        for name, size in sizes.items():
            self._staged[name] = StagedBuffer(loaded.device, size)
        for context, largest in made:
            self._keep(context, largest)

    def _shaped(self, shapes: Mapping[str, Shape]) -> ShapedRun:
        """The context for some input shapes; it is made if they are new."""
        key = tuple(shapes.values())
        if key in self._shapes:
            self._shapes.move_to_end(key)
            return self._shapes[key]
        context = self._loaded.contexts.for_one_shape()
        set_profile(context, self._loaded.tensors.choose(shapes), self._stream)
        return self._keep(context, shapes)

    def _keep(self, context: Any, shapes: Mapping[str, Shape]) -> ShapedRun:
        loaded = self._loaded
        while len(self._shapes) >= SHAPES_KEPT:
            self._shapes.popitem(last=False)[1].close()
        self._with_activations(context)
        output_shapes = set_shapes(context, loaded.tensors, shapes)
        set_addresses(context, {n: s.on_device.pointer for n, s in self._staged.items()})
        work = partial(enqueue, context, self._stream)
        shaped = ShapedRun(work, output_shapes, loaded.device, self._stream, loaded.launches)
        self._shapes[tuple(shapes.values())] = shaped
        return shaped

    def _with_activations(self, context: Any) -> Any:
        if self._activations is not None and self._activations.size:
            context.set_device_memory(self._activations.pointer, self._activations.size)
        return context
