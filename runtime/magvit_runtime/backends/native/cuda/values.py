"""Where the values of a program are while its run on a GPU is planned.

A value is a map in memory, or a sum that its only reader makes, or it is made anew for each of its
readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from magvit_runtime.backends.native.cuda.maps import CudaMap
from magvit_runtime.backends.native.cuda.steps import Added, Apply, Moments, Statistics, Step
from magvit_runtime.backends.native.decoder_steps import (
    AdaptiveNormalization,
    DepthToSpace,
    PixelRounding,
)
from magvit_runtime.backends.native.program import Attention, ClipShape, Conv, Program
from magvit_runtime.backends.native.program import Step as ProgramStep
from magvit_runtime.types import FloatType


@dataclass(frozen=True)
class Parts:
    """A value as a sum: features plus what is added, rounded to a type."""

    features: CudaMap
    added: Added
    dtype: FloatType


class Values:
    """The values of a program, and the steps so far that make them.

    Args:
        program: What is computed.
        batch: Clips.
        shapes: Shapes of all values of one clip.
        moments_size: Bytes that the statistics of a map take, for a number of groups.

    Attributes:
        steps: The steps.
        sizes: Bytes of the buffers that are no maps.
    """

    def __init__(
        self,
        program: Program,
        batch: int,
        shapes: Mapping[str, ClipShape],
        moments_size: Callable[[CudaMap, int], int],
    ) -> None:
        self.steps: list[Step] = []
        self.sizes: dict[str, int] = {}
        self._program = program
        self._batch = batch
        self._shapes = shapes
        self._moments_size = moments_size
        self._outputs = {output.value for output in program.outputs}
        self._stored: dict[str, CudaMap] = {}
        self._made: dict[str, Callable[[CudaMap], Step]] = {}
        self._sums: dict[str, Parts] = {}
        # By value and normalisation.
        self._moments: dict[tuple[str, int], Moments] = {}

    def make_by(self, value: str, make: Callable[[CudaMap], Step]) -> None:
        """Notes that each reader makes a value, in its own type and border, by a step for a map."""
        self._made[value] = make

    def maker(self, value: str) -> Callable[[CudaMap], Step] | None:
        """The step that makes a value for a reader, if each makes its own."""
        return self._made.get(value)

    def settle(self, value: str, parts: Parts) -> None:
        """Adds the parts of a value up, in whichever step is cheapest."""
        if not parts.added and parts.features.dtype != parts.dtype:
            converted = self.in_type(parts.features, parts.dtype)
            parts = Parts(converted, Added(), parts.dtype)
        result, added, total = parts.features, parts.added, self.total_of(value, parts)
        readers = [(i, self._program.steps[i]) for i in self._program.readers(value)]
        for i, reader in readers:
            if isinstance(reader, Conv) and reader.input == value and reader.normalization:
                key = value, id(reader.normalization)
                # Convs that read through the same normalisation share its moments.
                if key not in self._moments:
                    moments = self.new_moments(i, result, reader.normalization.groups)
                    self._moments[key] = moments
                    self.steps.append(Statistics(result, added, total, moments))
                    result, added = total, Added()
        if added:
            if self.is_read_once(value) and _adds(readers[0][1], value, added):
                self._sums[value] = parts
                return
            self.steps.append(Apply(result, added, parts.dtype, None, total))
        self._stored[value] = total

    def new_moments(
        self, reader: int, features: CudaMap, groups: int, vectors: str | None = None
    ) -> Moments:
        """Memory for the moments of a map, for the normalisation of step `reader`."""
        moments = Moments(reader, f"moments {reader}", vectors)
        self.sizes[moments.buffer] = self._moments_size(features, groups)
        return moments

    def moments_for(self, conv: Conv) -> Moments:
        """The moments of a conv's input, which were taken when that was settled."""
        return self._moments[conv.input, id(conv.normalization)]

    def total_of(self, value: str, parts: Parts) -> CudaMap:
        """Where the sum of parts goes: to the features' own memory, if it is of their type."""
        if parts.features.dtype == parts.dtype:
            return parts.features
        return self.new_map(value, parts.dtype)

    def parts(self, value: str) -> Parts:
        """A value as its only reader may read it, or else as it is stored."""
        if value in self._sums:
            return self._sums[value]
        stored = self.map(value)
        return Parts(stored, Added(), stored.dtype)

    def map(self, value: str) -> CudaMap:
        """A value as one map without a border."""
        if value not in self._stored:
            target = self.new_map(value, "float32")
            self.steps.append(self._made[value](target))
            self._stored[value] = target
        return self._stored[value]

    def in_type(self, source: CudaMap, dtype: FloatType) -> CudaMap:
        """A map of the same values in a type."""
        if source.dtype == dtype:
            return source
        target = replace(source, buffer=f"{source.buffer} as {dtype}", dtype=dtype)
        self.steps.append(Apply(source, Added(), source.dtype, None, target))
        return target

    def new_map(self, value: str, dtype: FloatType) -> CudaMap:
        """A map for a value, in a buffer that is named after it."""
        t, h, w, channels = self._shapes[value]
        return CudaMap(f"value {value}", dtype, self._batch, (t, h, w), channels)

    def is_read_once(self, value: str) -> bool:
        """Whether one step reads it, and no caller."""
        return len(self._program.readers(value)) == 1 and value not in self._outputs


def _adds(reader: ProgramStep, value: str, added: Added) -> bool:
    """Whether a step adds up the parts of a value that it alone reads."""
    match reader:
        case Conv():
            return reader.residual != value
        case AdaptiveNormalization():
            return value not in (reader.scale.map, reader.shift.map)
        case DepthToSpace() | Attention() | PixelRounding():
            return added.residual is None
        case _:
            return False
