"""A program as the steps of one run on a GPU.

A conv writes its bare result. The first step that reads the result adds the bias and the residual.
That step is either the statistics pass of a normalisation, which also writes the sum, or the pass
that writes the next conv's input. The second pass normalises, activates, converts, and leaves a
border of zeros if the conv's plan wants one. Attention, depth to space and the bytes of a decoder
add a bias themselves.

An encoder's first conv reads unfolded pixels (`unfolding`), and so has a kernel of 1.

A conv of our own (`own_convs`) adds bias and residual itself. It also takes the moments, where the
statistics pass for the next conv would follow and no group crosses 64 channels.

An adaptive norm is the same two passes with each clip's own scale and shift, over the map's own
memory. The next normalisation's statistics read its result once more: some 50 us of a released
video decoder's 12 ms on an H100, by the bytes (not measured).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from magvit_runtime.backends.native.arena import Lifetime
from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan, ConvPrecision
from magvit_runtime.backends.native.cuda.maps import CHANNEL_MULTIPLE, CudaMap, arrivals_bytes
from magvit_runtime.backends.native.cuda.own_convs import with_moments
from magvit_runtime.backends.native.cuda.steps import (
    Added,
    Apply,
    Attend,
    Codes,
    Convolution,
    Give,
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
    extras_of,
    maps_of,
)
from magvit_runtime.backends.native.cuda.unfolding import (
    unfolded_channels,
    unfolded_geometry,
    unfolded_pixels,
)
from magvit_runtime.backends.native.cuda.values import Parts, Values
from magvit_runtime.backends.native.decoder_steps import (
    AdaptiveNormalization,
    CodebookRows,
    DepthToSpace,
    PixelRounding,
    Repetition,
    SignCodes,
)
from magvit_runtime.backends.native.program import (
    Attention,
    ClipShape,
    CodebookSearch,
    Conv,
    LookupFreeQuantization,
    PixelNormalization,
    Program,
    Sizes,
    channel_pitch,
)
from magvit_runtime.backends.native.program import Step as ProgramStep
from magvit_runtime.types import FloatType

# The buffer in which all statistics passes of a run count their blocks.
ARRIVALS = "arrivals"

_NO_BORDER = (0, 0, 0)
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Schedule:
    """One run.

    Attributes:
        steps: In their order.
        buffers: Every buffer's bytes and the steps that use it. No step writes borders, and
            `ARRIVALS` is zero between two steps, so both keep their memory for the whole run.
    """

    steps: tuple[Step, ...]
    buffers: Mapping[str, Lifetime]


@dataclass(frozen=True)
class Workspaces:
    """Bytes of workspace that the operators take.

    Attributes:
        moments: Of the statistics of a map, for a number of groups.
        products: Of an attention, for its queries.
        search: Of the search of a codebook, for its latents.
    """

    moments: Callable[[CudaMap, int], int]
    products: Callable[[CudaMap], int]
    search: Callable[[CudaMap], int]


def plan_schedule(
    program: Program,
    batch: int,
    shapes: Mapping[str, ClipShape],
    precision: ConvPrecision,
    plan_of: Callable[[ConvGeometry], ConvPlan],
    workspaces: Workspaces,
) -> Schedule:
    """Plans the run of a program for one shape.

    Args:
        program: What it computes.
        batch: Clips.
        shapes: Shapes of all values of one clip.
        precision: Of the session.
        plan_of: The plan of a conv.
        workspaces: What the operators take.
    """
    scheduler = _Scheduler(program, batch, shapes, precision, plan_of, workspaces)
    scheduler.add_all()
    return Schedule(tuple(scheduler.steps), scheduler.lifetimes())


class _Scheduler:
    """The steps so far, one step of the program after the other."""

    def __init__(
        self,
        program: Program,
        batch: int,
        shapes: Mapping[str, ClipShape],
        precision: ConvPrecision,
        plan_of: Callable[[ConvGeometry], ConvPlan],
        workspaces: Workspaces,
    ) -> None:
        self._program = program
        self._batch = batch
        self._shapes = shapes
        self._precision = precision
        self._plan_of = plan_of
        self._workspaces = workspaces
        self._values = Values(program, batch, shapes, workspaces.moments)
        self.steps = self._values.steps
        # Inputs without a border, by value and normalisation: convs that read through the same one
        # share them.
        self._inputs: dict[tuple[str, int, FloatType], CudaMap] = {}

    def add_all(self) -> None:
        """The steps of the whole program."""
        maps = {output.value for output in self._program.outputs if output.is_map}
        for index, step in enumerate(self._program.steps):
            self._add(index, step)
            if step.output in maps:
                self.steps.append(Give(step.output, self._values.map(step.output)))

    def lifetimes(self) -> dict[str, Lifetime]:
        """When each buffer is in use."""
        last_step = len(self.steps) - 1
        found = {ARRIVALS: Lifetime(arrivals_bytes(self._batch), 0, last_step)}
        for i, step in enumerate(self.steps):
            uses = [(m.buffer, m.size, m.before + m.after != _NO_BORDER * 2) for m in maps_of(step)]
            uses += [(name, self._values.sizes[name], False) for name in extras_of(step)]
            for name, size, has_border in uses:
                first = 0 if has_border else found[name].first if name in found else i
                found[name] = Lifetime(size, first, last_step if has_border else i)
        return found

    def _add(self, index: int, step: ProgramStep) -> None:
        values = self._values
        match step:
            case PixelNormalization():
                values.make_by(step.output, partial(Pixels, step))
            case SignCodes():
                values.make_by(step.output, partial(Codes, step))
            case CodebookRows():
                values.make_by(step.output, partial(Rows, index, step))
            case Repetition():
                values.make_by(step.output, partial(Repeat, step, values.map(step.input)))
            case Conv():
                self._add_conv(index, step)
            case AdaptiveNormalization():
                self._add_adaptive_norm(index, step)
            case DepthToSpace():
                parts = values.parts(step.input)
                output = values.new_map(step.output, parts.dtype)
                bias_of = parts.added.bias_of
                self.steps.append(ToSpace(parts.features, bias_of, step.block, output))
                values.settle(step.output, Parts(output, Added(), output.dtype))
            case Attention():
                self._add_attention(index, step)
            case LookupFreeQuantization():
                self.steps.append(Quantize(step, values.map(step.input)))
            case CodebookSearch():
                latents = values.map(step.input)
                workspace = self._extra(f"search {index}", self._workspaces.search(latents))
                self.steps.append(Search(index, step, latents, workspace))
            case PixelRounding():
                parts = values.parts(step.input)
                self.steps.append(ToBytes(step, parts.features, parts.added.bias_of))

    def _add_conv(self, index: int, conv: Conv) -> None:
        """The steps of one conv: its input, itself, and what its readers need first."""
        values = self._values
        sizes = self._shapes[conv.input][:3]
        geometry = _geometry(conv, self._batch, sizes, self._precision)
        pixels = unfolded_pixels(self._program, index)
        if pixels is not None:
            source = self._unfold(index, conv, pixels, geometry)
            geometry = unfolded_geometry(conv, geometry)
            plan = self._plan_of(geometry)
        else:
            plan = self._plan_of(geometry)
            source = self._input(index, conv, sizes, plan)
        result = replace(values.new_map(conv.output, _type_of(conv)), buffer=f"conv {index}")
        residual = None
        if conv.residual is not None:
            residual = values.in_type(values.map(conv.residual), conv.output_type)
        added = Added(None if conv.bias is None else index, residual)
        place = len(self.steps)
        if plan.is_own:
            inside = added if conv.output_type == result.dtype else Added()
            self.steps.append(OwnConvolution(index, geometry, source, inside, result, None))
            added = Added() if inside else added
        else:
            workspace = self._extra(f"workspace {index}", plan.workspace)
            self.steps.append(Convolution(index, geometry, source, result, workspace))
        values.settle(conv.output, Parts(result, added, conv.output_type))
        if plan.is_own:
            self.steps[place:] = with_moments(self._program, self.steps[place:])

    def _unfold(
        self, index: int, conv: Conv, pixels: PixelNormalization, geometry: ConvGeometry
    ) -> CudaMap:
        """A conv's input as unfolded pixels."""
        sizes, channels = geometry.output_sizes, unfolded_channels(conv)
        target = CudaMap(f"input {index}", _type_of(conv), self._batch, sizes, channels)
        self.steps.append(UnfoldedPixels(pixels, geometry, conv.weight.shape[1], target))
        return target

    def _input(self, index: int, conv: Conv, sizes: Sizes, plan: ConvPlan) -> CudaMap:
        """A conv's input, in the type and with the border that the conv wants."""
        channels = conv.weight.shape[1]
        target = CudaMap(f"input {index}", _type_of(conv), self._batch, sizes, channels)
        has_border = plan.padding == "border"
        if has_border:
            target = replace(target, before=conv.pads_before, after=conv.pads_after)
            # One buffer for all convs of the same input: no other step may write into its border.
            name = f"{target.dtype} {sizes} {channels} in {target.before}, {target.after}"
            target = replace(target, buffer=name)
        if conv.normalization is not None:
            key = conv.input, id(conv.normalization), target.dtype
            if not has_border and key in self._inputs:
                return self._inputs[key]
            stored, moments = self._values.map(conv.input), self._values.moments_for(conv)
            self.steps.append(Apply(stored, Added(), stored.dtype, moments, target))
            if not has_border:
                self._inputs[key] = target
            return target
        make = self._values.maker(conv.input)
        if make is not None:
            self.steps.append(make(target))
            return target
        parts = self._values.parts(conv.input)
        if not parts.added and replace(target, buffer=parts.features.buffer) == parts.features:
            return parts.features
        self.steps.append(Apply(parts.features, parts.added, parts.dtype, None, target))
        return target

    def _add_adaptive_norm(self, index: int, step: AdaptiveNormalization) -> None:
        values = self._values
        parts = values.parts(step.input)
        total = values.total_of(step.input, parts)
        size = 2 * self._batch * total.channels * _FLOAT_BYTES
        vectors = self._extra(f"vectors {index}", size)
        scale, shift = values.map(step.scale.map), values.map(step.shift.map)
        if scale == shift:
            self.steps.append(Vectors(index, step, ("scale", "shift"), scale, vectors))
        else:
            self.steps.append(Vectors(index, step, ("scale",), scale, vectors))
            self.steps.append(Vectors(index, step, ("shift",), shift, vectors))
        moments = values.new_moments(index, total, step.groups, vectors)
        self.steps.append(Statistics(parts.features, parts.added, total, moments))
        is_last = values.is_read_once(step.input)
        target = total if is_last else values.new_map(step.output, total.dtype)
        self.steps.append(Apply(total, Added(), total.dtype, moments, target))
        values.settle(step.output, Parts(target, Added(), target.dtype))

    def _add_attention(self, index: int, step: Attention) -> None:
        values = self._values
        read = [values.parts(name) for name in step.reads]
        is_alike = len({parts.features.dtype for parts in read}) == 1
        maps = [
            parts.features if is_alike else values.in_type(parts.features, "float32")
            for parts in read
        ]
        biases = [parts.added.bias_of for parts in read]
        output = values.new_map(step.output, read[2].dtype)
        products = self._extra(f"products {index}", self._workspaces.products(maps[0]))
        self.steps.append(
            Attend((maps[0], maps[1], maps[2]), (biases[0], biases[1], biases[2]), output, products)
        )
        values.settle(step.output, Parts(output, Added(), output.dtype))

    def _extra(self, name: str, size: int) -> str:
        """A buffer that is no map."""
        self._values.sizes[name] = size
        return name


def _geometry(conv: Conv, batch: int, sizes: Sizes, precision: ConvPrecision) -> ConvGeometry:
    if _type_of(conv) == "float16":
        precision = "fp16"
    elif precision == "fp16":  # The islands of a half-precision graph are float32 throughout.
        precision = "fp32"
    outputs, inputs = (channel_pitch(n, CHANNEL_MULTIPLE) for n in conv.weight.shape[:2])
    return ConvGeometry(
        precision=precision,
        batch=batch,
        sizes=sizes,
        in_channels=inputs,
        out_channels=outputs,
        kernel=conv.kernel,
        stride=conv.stride,
        pads_before=conv.pads_before,
        pads_after=conv.pads_after,
        is_padded=(outputs, inputs) != conv.weight.shape[:2],
    )


def _type_of(conv: Conv) -> FloatType:
    return "float16" if conv.weight.dtype == "float16" else "float32"
