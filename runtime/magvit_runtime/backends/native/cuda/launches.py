"""The steps of a schedule as complete calls, with their addresses and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan, ConvPrecision
from magvit_runtime.backends.native.cuda.known_batches import KnownBatches
from magvit_runtime.backends.native.cuda.maps import CudaMap
from magvit_runtime.backends.native.cuda.parameters import CudaParameters
from magvit_runtime.backends.native.cuda.schedule import (
    ARRIVALS,
    Added,
    Apply,
    Convolution,
    Pixels,
    Quantize,
    Schedule,
    Statistics,
    Step,
)
from magvit_runtime.backends.native.program import Program
from magvit_runtime.cuda.device import CudaDevice
from magvit_runtime.cuda.memory import ResultMemory
from magvit_runtime.cuda.shaped_run import LaunchMode
from magvit_runtime.cuda.stage_times import StageTimes
from magvit_runtime.native_libraries.cuda_operators import Addends, CudaOperators, MapStructure

Launch = Callable[[], None]


class ConvLibrary(Protocol):
    """Runs the convs; `CudnnConvs` says what each method does."""

    def open_queue(self, stream: Any) -> Any:
        """A queue on a stream."""

    def close_queue(self, queue: Any) -> None:
        """Closes a queue."""

    def plan(self, geometry: ConvGeometry) -> ConvPlan:
        """The plan of a conv."""

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
        """Starts a conv."""

    def close(self) -> None:
        """Frees the plans."""


@dataclass(frozen=True)
class LoadedProgram:
    """What the workers of an executor share.

    Attributes:
        program: What is computed.
        precision: Of the session.
        device: The GPU.
        operators: All but the convs.
        convs: The convs.
        parameters: Weights on the GPU.
        launches: How runs reach the GPU.
        stage_times: GPU times of runs of host arrays.
        results: Where device results come from.
        batches: Batch sizes that are planned.
    """

    program: Program
    precision: ConvPrecision
    device: CudaDevice
    operators: CudaOperators
    convs: ConvLibrary
    parameters: CudaParameters
    launches: LaunchMode
    stage_times: StageTimes
    results: ResultMemory
    batches: KnownBatches


@dataclass(frozen=True)
class Places:
    """The GPU memory of a run, and the stream that it runs on.

    Attributes:
        buffers: Addresses of the schedule's buffers.
        inputs: Addresses of the program's inputs, by value: uint8 [N, T, H, W, 3].
        outputs: Addresses of its outputs, by value: int32 [N, t, h, w], float32 [N, C, t, h, w].
            Maps that nobody wants are missing.
        stream: The stream.
        queue: The convs' queue on it.
    """

    buffers: Mapping[str, int]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    stream: int
    queue: Any


def bind_launches(loaded: LoadedProgram, schedule: Schedule, places: Places) -> list[Launch]:
    """One call for each step, to be made in this order."""
    return [_bind(loaded, step, places) for step in schedule.steps]


def _bind(loaded: LoadedProgram, step: Step, places: Places) -> Launch:
    operators, parameters = loaded.operators, loaded.parameters
    buffers, stream = places.buffers, places.stream
    match step:
        case Pixels(normalization, output):
            return partial(
                operators.pixels,
                places.inputs[normalization.input],
                normalization.divisor,
                normalization.offset,
                _at(output, places),
                stream,
            )
        case Statistics(features, added, total, reader, moments):
            return partial(
                operators.statistics,
                _at(features, places),
                _addends(added, parameters, places),
                _at(total, places),
                parameters.normalization(reader),
                buffers[moments],
                buffers[ARRIVALS],
                stream,
            )
        case Apply(features, added, sum_type, reader, moments, output):
            return partial(
                operators.apply,
                _at(features, places),
                _addends(added, parameters, places),
                sum_type,
                None if reader is None else parameters.normalization(reader),
                None if moments is None else buffers[moments],
                _at(output, places),
                stream,
            )
        case Convolution(index, geometry, source, output, workspace):
            return partial(
                loaded.convs.enqueue,
                geometry,
                places.queue,
                image=buffers[source.buffer],
                weight=parameters.address("weight", index),
                output=buffers[output.buffer],
                workspace=buffers[workspace],
            )
        case Quantize(quantization, latents):
            return partial(
                operators.lfq,
                _at(latents, places),
                places.outputs[quantization.output],
                places.outputs.get(quantization.input, 0),
                stream,
            )


def _at(features: CudaMap, places: Places) -> MapStructure:
    return features.at(places.buffers[features.buffer])


def _addends(added: Added, parameters: CudaParameters, places: Places) -> Addends:
    return Addends(
        None if added.bias_of is None else parameters.address("bias", added.bias_of),
        None if added.residual is None else places.buffers[added.residual.buffer],
    )
