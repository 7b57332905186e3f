"""The steps of a schedule as complete calls, with their addresses and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan, ConvPrecision
from magvit_runtime.backends.native.cuda.known_batches import KnownBatches
from magvit_runtime.backends.native.cuda.maps import CudaMap
from magvit_runtime.backends.native.cuda.parameters import CudaParameters
from magvit_runtime.backends.native.cuda.schedule import ARRIVALS, Schedule
from magvit_runtime.backends.native.cuda.steps import (
    Added,
    Apply,
    Attend,
    Codes,
    Convolution,
    Give,
    Moments,
    OwnConvolution,
    Pixels,
    Quantize,
    Repeat,
    Rows,
    Search,
    Statistics,
    Step,
    ToBytes,
    ToSpace,
    UnfoldedPixels,
    Vectors,
)
from magvit_runtime.backends.native.decoder_steps import AdaptiveNormalization
from magvit_runtime.backends.native.program import Program
from magvit_runtime.cuda.device import CudaDevice
from magvit_runtime.cuda.memory import ResultMemory
from magvit_runtime.cuda.shaped_run import LaunchMode
from magvit_runtime.cuda.stage_times import StageTimes
from magvit_runtime.native_libraries.cuda_operators import (
    Addends,
    AttentionBiases,
    ChannelStatistic,
    CudaOperators,
    MapStructure,
    Rounding,
    Triple,
    Window,
)
from magvit_runtime.native_libraries.operators import ACTIVATIONS, GroupNormOptions

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
        operators: All but the convs of cuDNN.
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
        inputs: Addresses of the program's inputs, by value: uint8 [N, T, H, W, 3] or int32
            [N, t, h, w].
        outputs: Addresses of its outputs, by value: int32 or float32 [N, t, h, w], uint8
            [N, T, H, W, 3], and maps float32 [N, C, t, h, w]. Maps that nobody wants are missing.
        stream: The stream.
        queue: The convs' queue on it.
    """

    buffers: Mapping[str, int]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    stream: int
    queue: Any


def bind_launches(loaded: LoadedProgram, schedule: Schedule, places: Places) -> list[Launch]:
    """The calls of all steps, to be made in this order; none for maps that nobody wants."""
    wanted = (
        step
        for step in schedule.steps
        if not isinstance(step, Give) or step.value in places.outputs
    )
    return [_bind(loaded, step, places) for step in wanted]


def _bind(loaded: LoadedProgram, step: Step, places: Places) -> Launch:
    operators, parameters = loaded.operators, loaded.parameters
    buffers, outputs, stream = places.buffers, places.outputs, places.stream
    at = partial(_at, places=places)
    match step:
        case Pixels(pixels, output):
            frames = places.inputs[pixels.input]
            call = partial(operators.pixels, frames, pixels.divisor, pixels.offset, at(output))
        case UnfoldedPixels(pixels, geometry, channels, output):
            frames, window = places.inputs[pixels.input], _window(geometry, channels)
            divisor, offset = pixels.divisor, pixels.offset
            call = partial(operators.unfolded_pixels, frames, divisor, offset, window, at(output))
        case Codes(codes, output):
            call = partial(operators.lfq_codes, places.inputs[codes.input], at(output))
        case Rows(index, rows, output):
            codebook = parameters.address("codebook", index)
            ids, count = places.inputs[rows.input], len(rows.codebook)
            call = partial(operators.codebook_rows, ids, codebook, count, at(output))
        case Repeat(repetition, features, output):
            height, width = repetition.height, repetition.width
            call = partial(operators.repeat, at(features), height, width, at(output))
        case Statistics(features, added, total, moments):
            call = partial(
                operators.statistics,
                at(features),
                _addends(added, parameters, places),
                at(total),
                _options(moments, loaded, places, features),
                buffers[moments.buffer],
                buffers[ARRIVALS],
            )
        case Apply(features, added, sum_type, normalized, output):
            call = partial(
                operators.apply,
                at(features),
                _addends(added, parameters, places),
                sum_type,
                None if normalized is None else _options(normalized, loaded, places, features),
                None if normalized is None else buffers[normalized.buffer],
                at(output),
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
        case OwnConvolution(index, geometry, source, added, output, moments):
            call = partial(
                operators.conv,
                at(source),
                parameters.address("weight", index),
                geometry.kernel[0],
                _addends(added, parameters, places),
                at(output),
                None if moments is None else _options(moments, loaded, places, output),
                None if moments is None else buffers[moments.buffer],
            )
        case Vectors(_, norm, _, features):
            scale = _statistic("scale", step, parameters, places)
            shift = _statistic("shift", step, parameters, places)
            count = len(norm.scale.bias)
            call = partial(operators.channel_vectors, at(features), scale, shift, count)
        case ToSpace(features, bias_of, block, output):
            bias = _bias(bias_of, parameters)
            call = partial(operators.depth_to_space, at(features), bias, block, at(output))
        case Attend((queries, keys, values), biases_of, output, products):
            biases = AttentionBiases(*(_bias(index, parameters) for index in biases_of))
            maps = at(queries), at(keys), at(values)
            call = partial(operators.attention, *maps, biases, at(output), buffers[products])
        case Quantize(quantization, latents):
            call = partial(operators.lfq, at(latents), outputs[quantization.output])
        case Search(index, search, latents, workspace):
            call = partial(
                operators.codebook_argmax,
                at(latents),
                parameters.address("codebook", index),
                len(search.codebook),
                outputs[search.output],
                outputs[search.margins],
                buffers[workspace],
            )
        case ToBytes(rule, features, bias_of):
            numbers = Rounding(rule.low, rule.high, rule.offset, rule.scale, rule.rounding)
            bias = _bias(bias_of, parameters)
            call = partial(operators.bytes_of, at(features), bias, numbers, outputs[rule.output])
        case Give(value, features):
            call = partial(operators.channels_first, at(features), outputs[value])
    return partial(call, stream)


def _at(features: CudaMap, places: Places) -> MapStructure:
    return features.at(places.buffers[features.buffer])


def _window(geometry: ConvGeometry, pixel_channels: int) -> Window:
    return Window(
        Triple(*geometry.sizes),
        pixel_channels,
        Triple(*geometry.kernel),
        Triple(*geometry.stride),
        Triple(*geometry.pads_before),
        Triple(*geometry.pads_after),
    )


def _bias(index: int | None, parameters: CudaParameters) -> int | None:
    return None if index is None else parameters.address("bias", index)


def _addends(added: Added, parameters: CudaParameters, places: Places) -> Addends:
    return Addends(
        _bias(added.bias_of, parameters),
        None if added.residual is None else places.buffers[added.residual.buffer],
    )


def _options(
    moments: Moments, loaded: LoadedProgram, places: Places, features: CudaMap
) -> GroupNormOptions:
    """The normalisation of the step that reads moments."""
    step = loaded.program.steps[moments.reader]
    if not isinstance(step, AdaptiveNormalization):
        return loaded.parameters.normalization(moments.reader)
    assert moments.vectors is not None
    vectors = places.buffers[moments.vectors]
    return GroupNormOptions(
        num_groups=step.groups,
        epsilon=step.epsilon,
        weight=vectors,
        bias=vectors + _shifts_after(step, features.batch),
        affine_per_sample=1,
        activation=ACTIVATIONS["none"],
    )


def _statistic(
    kind: Literal["scale", "shift"], step: Vectors, parameters: CudaParameters, places: Places
) -> ChannelStatistic:
    """The scales or the shifts of an adaptive norm; left out if the step doesn't make them."""
    if kind not in step.of:
        return ChannelStatistic()
    is_scale = kind == "scale"
    statistic = step.norm.scale if is_scale else step.norm.shift
    after = 0 if is_scale else _shifts_after(step.norm, step.features.batch)
    return ChannelStatistic(
        is_spread=statistic.epsilon is not None,
        epsilon=statistic.epsilon or 0.0,
        weight=parameters.address("scale weight" if is_scale else "shift weight", step.index),
        bias=parameters.address("scale bias" if is_scale else "shift bias", step.index),
        vectors=places.buffers[step.vectors] + after,
    )


def _shifts_after(norm: AdaptiveNormalization, batch: int) -> int:
    """Bytes of the scales of all clips, after which their shifts are."""
    return batch * norm.scale.bias.nbytes
