"""What the values of a graph are on the way to a program, and how they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from magvit_runtime.backends.native.program import Layout, Normalization
from magvit_runtime.bundle.onnx_file import Node
from magvit_runtime.errors import BackendError


@dataclass(frozen=True)
class Layouts:
    """How frames, feature maps and ids of a graph lie, by the number of axes of its frames."""

    frames: Literal["NTHWC", "NHWC"]
    maps: Layout
    ids: Layout

    @property
    def channels_first(self) -> tuple[int, ...]:
        """The axes of frames in the order of maps."""
        return tuple(self.frames.index(axis) for axis in self.maps)


LAYOUTS = {4: Layouts("NHWC", "NCHW", "NHW"), 5: Layouts("NTHWC", "NCTHW", "NTHW")}


@dataclass(frozen=True)
class PixelsValue:
    """The frames on their way to the first conv: a byte x is x / divisor + offset by now."""

    divisor: float = 1.0
    offset: float = 0.0
    is_channels_first: bool = False


@dataclass(frozen=True)
class MapValue:
    """A feature map: what a step wrote, or that as a normalisation leaves it."""

    value: str
    channels: int
    normalization: Normalization | None = None


@dataclass(frozen=True)
class IdsValue:
    """What a quantizer gives at each position: ids, or their margins."""

    value: str
    dtype: Literal["int32", "float32"] = "int32"


def refusal(node: Node) -> BackendError:
    """The error for a node that has no place in a program."""
    return BackendError(
        f"the native backend can't run the node {node.name} ({node.operator})",
        expected="convs after GroupNorm and SiLU, residual sums of convs, attention, a quantizer",
        mend="use backend='onnxruntime'",
    )
