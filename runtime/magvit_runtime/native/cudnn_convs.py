"""Convs by cuDNN, through NVIDIA's `nvidia-cudnn-frontend` (Python module `cudnn`), without torch.

Written against version 1.32 of it; not run on a GPU yet.
"""

from __future__ import annotations

import itertools
import logging
import math
import operator
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np

from magvit_runtime.errors import BackendError
from magvit_runtime.native.conv_plans import ConvGeometry, ConvPlan, Padding, PlanCache
from magvit_runtime.sessions.cuda_device import CudaDevice
from magvit_runtime.sessions.device_memory import DeviceBuffer

_LOG = logging.getLogger("magvit_runtime.native")

_INSTALL = "pip install 'magvit-runtime[native-cuda]'"
# A plan that wants more is not worth the memory.
_WORKSPACE_LIMIT = 2**30
# Each plan is built, run once, and then timed so often; the shortest time counts.
_ROUNDS = 5

Role = Literal["image", "weight", "output"]


@dataclass(frozen=True)
class _BuiltConv:
    """A plan that is ready to run.

    Attributes:
        graph: The `cudnn.pygraph`.
        index: Of the plan in it.
        tensors: Its tensors by role.
    """

    graph: Any
    index: int
    tensors: dict[Role, Any]


class CudnnConvs:
    """The convs of one GPU.

    Thread-safe: calls take turns. Each stream needs a queue of its own.

    Args:
        device: The GPU, which must be current in the calling thread.
        cudnn: The module `cudnn`.
        cache: Plans that are known.
    """

    def __init__(self, device: CudaDevice, cudnn: Any, cache: PlanCache) -> None:
        self._device = device
        self._cudnn = cudnn
        self._cache = cache
        self._built: dict[ConvGeometry, _BuiltConv] = {}
        self._lock = threading.Lock()
        # What a rejected plan or engine raises: there, that is an answer.
        self._rejections = (
            cudnn.cudnnGraphNotSupportedError,
            NotImplementedError,
            RuntimeError,
            ValueError,
        )
        self._stream = device.new_stream()
        self._tuning_queue = self.open_queue(self._stream)
        flags = device.runtime.cudaEventDefault
        self._events = [device.call("cudaEventCreateWithFlags", flags) for _ in range(2)]

    def open_queue(self, stream: Any) -> Any:
        """A handle of cuDNN for a stream."""
        handle = self._cudnn.create_handle()
        self._cudnn.set_stream(handle, int(stream))
        return handle

    def close_queue(self, queue: Any) -> None:
        """Gives a handle back; its work must be done."""
        self._cudnn.destroy_handle(queue)

    def plan(self, geometry: ConvGeometry) -> ConvPlan:
        """The plan of a conv: a known one, or the fastest of those that cuDNN has, timed now.

        Raises:
            BackendError: cuDNN has none, or the GPU failed.
        """
        with self._lock:
            known = self._cache.get(geometry)
            if known is not None and self._restore(geometry, known):
                return known
            plan = self._tune(geometry)
            self._cache.put(geometry, plan)
            self._cache.save()
            return plan

    def enqueue(
        self,
        geometry: ConvGeometry,
        queue: Any,
        *,
        image: int,
        weight: int,
        output: int,
        workspace: int,
    ) -> None:
        """Starts a conv, whose plan was asked for before, on a queue's stream.

        Args:
            geometry: The conv.
            queue: From `open_queue`.
            image: Address of the input on the GPU; channels come last.
            weight: Address of the weights, [C_out, kt, kh, kw, C_in].
            output: Address of the output; channels come last.
            workspace: Address of the bytes that the plan needs besides.

        Raises:
            BackendError: cuDNN failed.
        """
        addresses: dict[Role, int] = {"image": image, "weight": weight, "output": output}
        with self._lock:
            try:
                self._execute(self._built[geometry], queue, addresses, workspace)
            except self._rejections as error:
                raise BackendError(
                    f"cuDNN can't run the conv {geometry.key}", found=str(error)
                ) from error

    def close(self) -> None:
        """Frees the plans. No conv may be running."""
        self._built = {}
        self.close_queue(self._tuning_queue)
        for event in self._events:
            self._device.call("cudaEventDestroy", event)
        self._device.call("cudaStreamDestroy", self._stream)

    def _execute(
        self, built: _BuiltConv, queue: Any, addresses: dict[Role, int], workspace: int
    ) -> None:
        pack = {tensor: addresses[role] for role, tensor in built.tensors.items()}
        built.graph.execute_plan_at_index(pack, workspace, built.index, queue)

    def _restore(self, geometry: ConvGeometry, plan: ConvPlan) -> bool:
        """Builds a known plan; whether cuDNN still has it."""
        if geometry in self._built:
            return True
        names = self._cudnn.knob_type.__members__
        try:
            knobs = {names[name]: value for name, value in plan.knobs.items()}
            graph, tensors = conv_graph(
                self._cudnn, geometry, plan.padding, handle=self._tuning_queue
            )
            graph.create_execution_plan(plan.engine, knobs)
            index = graph.get_execution_plan_count() - 1
            graph.build_plan_at_index(index)
            fits = bool(graph.get_workspace_size_plan_at_index(index) <= plan.workspace)
        except (KeyError, *self._rejections) as error:
            _LOG.warning("the plan kept for conv %s is timed anew: %s", geometry.key, error)
            return False
        if fits:
            self._built[geometry] = _BuiltConv(graph, index, tensors)
        return fits

    def _tune(self, geometry: ConvGeometry) -> ConvPlan:
        """Times every plan with every kind of padding."""
        best: tuple[ConvPlan, _BuiltConv] | None = None
        refusals: list[str] = []
        addresses, buffers = self._scratch(geometry)
        try:
            for padding in geometry.paddings:
                try:
                    graph, tensors = conv_graph(
                        self._cudnn, geometry, padding, handle=self._tuning_queue
                    )
                    modes = self._cudnn.heur_mode
                    graph.create_execution_plans([modes.A, modes.B, modes.FALLBACK])
                except self._rejections as error:
                    refusals.append(str(error))
                    continue
                for index in range(graph.get_execution_plan_count()):
                    built = _BuiltConv(graph, index, tensors)
                    try:
                        plan = self._time(built, padding, addresses)
                    except self._rejections as error:
                        refusals.append(str(error))
                        continue
                    if best is None or plan.microseconds < best[0].microseconds:
                        best = plan, built
        finally:
            for buffer in buffers:
                buffer.close()
        if best is None:
            raise BackendError(
                f"cuDNN has no plan for the conv {geometry.key} on {self._device.name}",
                found=refusals[-1] if refusals else "no candidate",
                mend="use another precision, or backend='onnxruntime'",
            )
        self._built[geometry] = best[1]
        return best[0]

    def _time(self, built: _BuiltConv, padding: Padding, addresses: dict[Role, int]) -> ConvPlan:
        graph, index = built.graph, built.index
        graph.build_plan_at_index(index)
        size = graph.get_workspace_size_plan_at_index(index)
        if size > _WORKSPACE_LIMIT:
            raise ValueError(f"plan {index} needs {size} bytes of workspace")
        engine, knobs = graph.get_engine_and_knobs_at_index(index)
        workspace = DeviceBuffer(self._device, size)
        try:
            seconds = self._seconds(
                lambda: self._execute(built, self._tuning_queue, addresses, workspace.pointer)
            )
        finally:
            self._device.synchronize(self._stream)
            workspace.close()
        names = {knob.name: int(value) for knob, value in knobs.items()}
        return ConvPlan(padding, int(engine), names, int(size), round(seconds * 1e6, 2))

    def _seconds(self, launch: Callable[[], None]) -> float:
        """GPU time of a launch: the shortest of a few, after one that loads its kernels."""
        device, (start, end) = self._device, self._events
        launch()
        times = []
        for _ in range(_ROUNDS):
            device.call("cudaEventRecord", start, self._stream)
            launch()
            device.call("cudaEventRecord", end, self._stream)
            device.synchronize(self._stream)
            times.append(float(device.call("cudaEventElapsedTime", start, end)) / 1e3)
        return min(times)

    def _scratch(self, geometry: ConvGeometry) -> tuple[dict[Role, int], list[DeviceBuffer]]:
        """Tensors for timing, of random values: with zeros GPUs draw less power and run faster."""
        dtype = np.dtype(np.float16 if geometry.precision == "fp16" else np.float32)
        noise = np.random.default_rng(0).standard_normal(2**18).astype(dtype)
        elements: dict[Role, int] = {
            "image": geometry.batch * math.prod(geometry.padded_sizes) * geometry.in_channels,
            "weight": geometry.out_channels * math.prod(geometry.kernel) * geometry.in_channels,
            "output": geometry.batch * math.prod(geometry.output_sizes) * geometry.out_channels,
        }
        copy = self._device.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        buffers: dict[Role, DeviceBuffer] = {}
        for role, count in elements.items():
            buffers[role] = DeviceBuffer(self._device, count * dtype.itemsize)
            for begin in range(0, count * dtype.itemsize, noise.nbytes):
                size = min(noise.nbytes, count * dtype.itemsize - begin)
                target = buffers[role].pointer + begin
                self._device.call("cudaMemcpy", target, noise.ctypes.data, size, copy)
        return {role: buffer.pointer for role, buffer in buffers.items()}, list(buffers.values())


def conv_graph(
    cudnn: Any, geometry: ConvGeometry, padding: Padding, *, handle: Any = None
) -> tuple[Any, dict[Role, Any]]:
    """A conv as a graph of cuDNN, and its tensors.

    Plans are left out that add up in half precision, that round float32 operands to half, or whose
    results differ from run to run; in fp32 also those on tensor cores, which are TF32.

    Args:
        cudnn: The module `cudnn`.
        geometry: The conv.
        padding: Whether the input has its zeros in memory.
        handle: Of cuDNN.
    """
    types, notes = cudnn.data_type, cudnn.numerical_note
    is_half = geometry.precision == "fp16"
    graph = cudnn.pygraph(
        io_data_type=types.HALF if is_half else types.FLOAT,
        intermediate_data_type=types.FLOAT,
        compute_data_type=types.FLOAT,
        handle=handle,
    )
    # Images run as 2-D convs, for which cuDNN has more kernels.
    first = 1 if (geometry.padded_sizes[0], geometry.kernel[0]) == (1, 1) else 0
    has_border = padding == "border"
    sizes = geometry.padded_sizes if has_border else geometry.sizes
    no_pads = (0, 0, 0)
    shapes: dict[Role, list[int]] = {
        "image": [geometry.batch, geometry.in_channels, *sizes[first:]],
        "weight": [geometry.out_channels, geometry.in_channels, *geometry.kernel[first:]],
    }
    tensors: dict[Role, Any] = {
        role: graph.tensor(name=role, dim=dims, stride=_channels_last(dims))
        for role, dims in shapes.items()
    }
    output = graph.conv_fprop(
        image=tensors["image"],
        weight=tensors["weight"],
        pre_padding=list((no_pads if has_border else geometry.pads_before)[first:]),
        post_padding=list((no_pads if has_border else geometry.pads_after)[first:]),
        stride=list(geometry.stride[first:]),
        dilation=[1, 1, 1][first:],
    )
    dims = [geometry.batch, geometry.out_channels, *geometry.output_sizes[first:]]
    output.set_output(True).set_dim(dims).set_stride(_channels_last(dims))
    output.set_data_type(types.HALF if is_half else types.FLOAT)
    tensors["output"] = output
    refused = [notes.REDUCED_PRECISION_REDUCTION, notes.DOWN_CONVERT_INPUTS, notes.NONDETERMINISTIC]
    if geometry.precision == "fp32":
        refused.append(notes.TENSOR_CORE)
    graph.deselect_numeric_notes(refused)
    return graph, tensors


def import_cudnn() -> Any:
    """The module `cudnn`, with cuDNN itself behind it.

    Raises:
        BackendError: One of the two isn't installed, or can't be loaded.
    """
    try:
        cudnn = import_module("cudnn")
        cudnn.backend_version()
    except (ImportError, RuntimeError) as error:
        raise BackendError(
            "the native backend needs cuDNN 9 and nvidia-cudnn-frontend on a GPU",
            found=str(error),
            mend=_INSTALL,
        ) from error
    return cudnn


def _channels_last(dims: Sequence[int]) -> list[int]:
    """Strides of a tensor [N, C, ...] that lies in memory as [N, ..., C]."""
    _, channels, *extents = dims
    steps = list(itertools.accumulate([channels, *reversed(extents)], operator.mul))
    return [steps[-1], 1, *reversed(steps[:-1])]
