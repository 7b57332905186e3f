"""A program as the steps of one run on a GPU: what is launched, on which buffers.

A conv writes its bare result. The first step that reads the result adds the bias and the residual.
That step is either the statistics pass of a normalisation, which also writes the sum, or the pass
that writes the next conv's input. The second pass normalises, activates, converts, and leaves a
border of zeros if the conv's plan wants one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from magvit_runtime.backends.native.arena import Lifetime
from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan, ConvPrecision
from magvit_runtime.backends.native.cuda.maps import CHANNEL_MULTIPLE, CudaMap, arrivals_bytes
from magvit_runtime.backends.native.program import (
    ClipShape,
    Conv,
    LookupFreeQuantization,
    PixelNormalization,
    Program,
    Sizes,
    channel_pitch,
)
from magvit_runtime.errors import BackendError
from magvit_runtime.types import FloatType

# The buffer in which all statistics passes of a run count their blocks.
ARRIVALS = "arrivals"

_NO_BORDER = (0, 0, 0)


@dataclass(frozen=True)
class Added:
    """The terms that are added to a conv's result.

    Attributes:
        bias_of: Index of the program's step whose bias it is, or None.
        residual: A map of the sum's type, or None.
    """

    bias_of: int | None = None
    residual: CudaMap | None = None

    def __bool__(self) -> bool:
        return self != Added()


@dataclass(frozen=True)
class Pixels:
    """Frames to normalised values, for a reader of them."""

    normalization: PixelNormalization
    output: CudaMap


@dataclass(frozen=True)
class Statistics:
    """Moments of features plus what is added, for the normalisation that step `reader` reads with.

    The sum goes to `total`, which is `features` if nothing is added.
    """

    features: CudaMap
    added: Added
    total: CudaMap
    reader: int
    moments: str


@dataclass(frozen=True)
class Apply:
    """Features plus what is added, rounded to `sum_type`; normalised for `reader`, unless None."""

    features: CudaMap
    added: Added
    sum_type: FloatType
    reader: int | None
    moments: str | None
    output: CudaMap


@dataclass(frozen=True)
class Convolution:
    """The bare conv that is step `index` of the program."""

    index: int
    geometry: ConvGeometry
    input: CudaMap
    output: CudaMap
    workspace: str


@dataclass(frozen=True)
class Quantize:
    """Latents to ids, and to channels first if that is asked for."""

    quantization: LookupFreeQuantization
    latents: CudaMap


Step = Pixels | Statistics | Apply | Convolution | Quantize


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


def check_outputs(program: Program) -> None:
    """Refuses a program whose outputs no step of a schedule writes.

    Raises:
        BackendError: Its outputs aren't ids and the latents that they are made of, each once.
    """
    quantizations = [step for step in program.steps if isinstance(step, LookupFreeQuantization)]
    written = {value for step in quantizations for value in (step.input, step.output)}
    given = {output.value for output in program.outputs}
    is_each_once = len(given) == len(program.outputs)
    if not (is_each_once and {step.output for step in quantizations} <= given <= written):
        raise BackendError(
            "the native backend can't give these outputs on a GPU",
            found=", ".join(output.name for output in program.outputs),
            expected="ids, and the latents that they are made of, each once",
            mend="use backend='native', or backend='onnxruntime'",
        )


def plan_schedule(
    program: Program,
    batch: int,
    shapes: Mapping[str, ClipShape],
    precision: ConvPrecision,
    plan_of: Callable[[ConvGeometry], ConvPlan],
    moments_size: Callable[[CudaMap, int], int],
) -> Schedule:
    """Plans the run of a program for one shape.

    Args:
        program: What it computes.
        batch: Clips.
        shapes: Shapes of all values of one clip.
        precision: Of the session.
        plan_of: The plan of a conv.
        moments_size: Bytes that the statistics of a map take, for a number of groups.
    """
    scheduler = _Scheduler(program, batch, shapes, precision, plan_of, moments_size)
    scheduler.add_all()
    return Schedule(tuple(scheduler.steps), scheduler.lifetimes())


class _Scheduler:
    """The steps so far, and where each value is."""

    def __init__(
        self,
        program: Program,
        batch: int,
        shapes: Mapping[str, ClipShape],
        precision: ConvPrecision,
        plan_of: Callable[[ConvGeometry], ConvPlan],
        moments_size: Callable[[CudaMap, int], int],
    ) -> None:
        self.steps: list[Step] = []
        self._program = program
        self._batch = batch
        self._shapes = shapes
        self._precision = precision
        self._plan_of = plan_of
        self._moments_size = moments_size
        self._outputs = {output.value for output in program.outputs}
        self._stored: dict[str, CudaMap] = {}
        # Values that their reader makes from frames, in its own type and with its own border.
        self._pixels: dict[str, PixelNormalization] = {}
        # Values that are never written: their only reader adds their parts itself.
        self._sums: dict[str, tuple[CudaMap, Added, FloatType]] = {}
        self._extra_sizes: dict[str, int] = {}

    def add_all(self) -> None:
        """The steps of the whole program."""
        for index, step in enumerate(self._program.steps):
            match step:
                case PixelNormalization():
                    self._pixels[step.output] = step
                case Conv():
                    self._add_conv(index, step)
                case LookupFreeQuantization():
                    self.steps.append(Quantize(step, self._stored[step.input]))

    def _add_conv(self, index: int, conv: Conv) -> None:
        """The steps of one conv: its input, itself, and what its readers need first."""
        sizes = self._shapes[conv.input][:3]
        geometry = _geometry(conv, self._batch, sizes, self._precision)
        plan = self._plan_of(geometry)
        source = self._input(index, conv, sizes, plan)
        result = CudaMap(
            f"conv {index}",
            _type_of(conv),
            self._batch,
            geometry.output_sizes,
            conv.weight.shape[0],
        )
        workspace = f"workspace {index}"
        self._extra_sizes[workspace] = plan.workspace
        self.steps.append(Convolution(index, geometry, source, result, workspace))
        self._finish(index, conv, result)

    def lifetimes(self) -> dict[str, Lifetime]:
        """When each buffer is in use."""
        last_step = len(self.steps) - 1
        found = {ARRIVALS: Lifetime(arrivals_bytes(self._batch), 0, last_step)}
        for i, step in enumerate(self.steps):
            for name, size, has_border in self._uses(step):
                first = 0 if has_border else found[name].first if name in found else i
                found[name] = Lifetime(size, first, last_step if has_border else i)
        return found

    def _input(self, index: int, conv: Conv, sizes: Sizes, plan: ConvPlan) -> CudaMap:
        """A conv's input, in the type and with the border that the conv wants."""
        channels = conv.weight.shape[1]
        target = CudaMap(f"input {index}", _type_of(conv), self._batch, sizes, channels)
        if plan.padding == "border":
            target = replace(target, before=conv.pads_before, after=conv.pads_after)
            # One buffer for all convs of the same input: no other step may write into its border.
            name = f"{target.dtype} {sizes} {channels} in {target.before}, {target.after}"
            target = replace(target, buffer=name)
        if conv.input in self._pixels:
            self.steps.append(Pixels(self._pixels[conv.input], target))
        elif conv.input in self._sums:
            features, added, sum_type = self._sums[conv.input]
            self.steps.append(Apply(features, added, sum_type, None, None, target))
        else:
            stored = self._stored[conv.input]
            if conv.normalization is not None:
                moments = f"moments {index}"
                self.steps.append(Apply(stored, Added(), stored.dtype, index, moments, target))
            elif replace(target, buffer=stored.buffer) == stored:
                return stored
            else:
                self.steps.append(Apply(stored, Added(), stored.dtype, None, None, target))
        return target

    def _finish(self, index: int, conv: Conv, result: CudaMap) -> None:
        """Adds a conv's bias and residual to its result, in whichever step is cheapest."""
        added = Added(
            None if conv.bias is None else index,
            None if conv.residual is None else self._as_type(conv.residual, conv.output_type),
        )
        if not added and result.dtype != conv.output_type:
            result = self._converted(result, conv.output_type, f"value {index}")
        total = result
        if result.dtype != conv.output_type:
            total = replace(result, buffer=f"value {index}", dtype=conv.output_type)

        readers = [(i, self._program.steps[i]) for i in self._program.readers(conv.output)]
        for i, reader in readers:
            if isinstance(reader, Conv) and reader.input == conv.output and reader.normalization:
                moments = f"moments {i}"
                self._extra_sizes[moments] = self._moments_size(result, reader.normalization.groups)
                self.steps.append(Statistics(result, added, total, i, moments))
                result, added = total, Added()
        if added:
            if len(readers) == 1 and conv.output not in self._outputs:
                ((_, reader),) = readers
                if isinstance(reader, Conv) and reader.residual != conv.output:
                    self._sums[conv.output] = result, added, conv.output_type
                    return
            self.steps.append(Apply(result, added, conv.output_type, None, None, total))
        self._stored[conv.output] = total

    def _as_type(self, value: str, dtype: FloatType) -> CudaMap:
        stored = self._stored[value]
        if stored.dtype == dtype:
            return stored
        return self._converted(stored, dtype, f"{stored.buffer} as {dtype}")

    def _converted(self, source: CudaMap, dtype: FloatType, buffer: str) -> CudaMap:
        target = replace(source, buffer=buffer, dtype=dtype)
        self.steps.append(Apply(source, Added(), source.dtype, None, None, target))
        return target

    def _uses(self, step: Step) -> list[tuple[str, int, bool]]:
        """Name and size of each buffer of a step, and whether it has a border."""
        maps: list[CudaMap | None]
        extra: str | None = None
        match step:
            case Pixels(_, output):
                maps = [output]
            case Statistics(features, added, total, _, extra):
                maps = [features, added.residual, total]
            case Apply(features, added, _, _, extra, output):
                maps = [features, added.residual, output]
            case Convolution(_, _, source, output, extra):
                maps = [source, output]
            case Quantize(_, latents):
                maps = [latents]
        uses = [
            (m.buffer, m.size, m.before + m.after != _NO_BORDER * 2) for m in maps if m is not None
        ]
        return uses + ([] if extra is None else [(extra, self._extra_sizes[extra], False)])


def _geometry(conv: Conv, batch: int, sizes: Sizes, precision: ConvPrecision) -> ConvGeometry:
    if _type_of(conv) == "float16":
        precision = "fp16"
    elif precision == "fp16":  # The islands of a half-precision graph are float32 throughout.
        precision = "fp32"
    return ConvGeometry(
        precision=precision,
        batch=batch,
        sizes=sizes,
        in_channels=channel_pitch(conv.weight.shape[1], CHANNEL_MULTIPLE),
        out_channels=channel_pitch(conv.weight.shape[0], CHANNEL_MULTIPLE),
        kernel=conv.kernel,
        stride=conv.stride,
        pads_before=conv.pads_before,
        pads_after=conv.pads_after,
    )


def _type_of(conv: Conv) -> FloatType:
    return "float16" if conv.weight.dtype == "float16" else "float32"
