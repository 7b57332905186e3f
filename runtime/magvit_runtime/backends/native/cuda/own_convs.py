"""Convs by the kernel of our own CUDA operators, as plans that are timed beside cuDNN's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from magvit_runtime.backends.native.cuda.conv_plans import OWN_ENGINE, ConvGeometry
from magvit_runtime.backends.native.cuda.cudnn_graph import Role
from magvit_runtime.backends.native.cuda.maps import CudaMap
from magvit_runtime.backends.native.cuda.steps import OwnConvolution, Statistics, Step
from magvit_runtime.backends.native.program import Conv, Program
from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.cuda_operators import Addends, CudaOperators

# An address that is aligned as all maps' are.
_ALIGNED = 256
# Channels whose moments the kernel has at a time; groups may not cross them (`FitsGroups`).
_MOMENTS = 64


@dataclass(frozen=True)
class OwnConv:
    """A conv by our kernel without addends, in the manner of `cudnn_graph.Candidate`.

    Attributes:
        operators: The CUDA operators.
        geometry: The conv.
        stream: Where it is timed.
        knobs: None.
        workspace: No bytes.
        engine: `OWN_ENGINE`.
    """

    operators: CudaOperators
    geometry: ConvGeometry
    stream: int
    knobs: dict[str, int] = field(default_factory=dict)
    workspace: int = 0
    engine: int = OWN_ENGINE

    def build(self) -> OwnConv:
        """Itself, which is always ready."""
        return self

    def execute(self, queue: Any, addresses: Mapping[Role, int], workspace: int) -> None:  # noqa: ARG002
        """Starts the conv; the queue and the workspace are cuDNN's.

        Raises:
            RuntimeError: It failed; so does a plan of cuDNN.
        """
        source, output = own_maps(self.geometry)
        try:
            self.operators.conv(
                source.at(addresses["image"]),
                addresses["weight"],
                self.geometry.kernel[0],
                Addends(),
                output.at(addresses["output"]),
                None,
                None,
                self.stream,
            )
        except BackendError as error:
            raise RuntimeError(f"our own conv failed: {error}") from error


def fits_own(operators: CudaOperators, geometry: ConvGeometry) -> bool:
    """Whether our kernel computes a conv on the current GPU."""
    if geometry.is_padded:
        return False
    frames, *window = geometry.kernel
    if geometry.precision != "fp16" or window != [3, 3] or geometry.stride != (1, 1, 1):
        return False
    if geometry.pads_before != (frames - 1, 1, 1) or geometry.pads_after != (0, 1, 1):
        return False
    source, output = own_maps(geometry)
    return operators.conv_fits(source.at(_ALIGNED), output.at(_ALIGNED), frames)


def own_maps(geometry: ConvGeometry) -> tuple[CudaMap, CudaMap]:
    """A conv's input and output, neither with a border."""
    return (
        CudaMap("", "float16", geometry.batch, geometry.sizes, geometry.in_channels),
        CudaMap("", "float16", geometry.batch, geometry.output_sizes, geometry.out_channels),
    )


def with_moments(program: Program, steps: Sequence[Step]) -> Sequence[Step]:
    """Steps from a conv on; one of our own takes the moments that the next step would take."""
    match steps:
        case [OwnConvolution() as conv, Statistics(features, added, total, moments), *rest] if (
            features == total == conv.output and not added
        ):
            reader = program.steps[moments.reader]
            normalization = reader.normalization if isinstance(reader, Conv) else None
            if normalization and _MOMENTS % (features.channels // normalization.groups) == 0:
                return [replace(conv, moments=moments), *rest]
    return steps
