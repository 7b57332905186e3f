"""The options of an engine that a user can choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from magvit_runtime.bundle.engine_records import ShapeRange
from magvit_runtime.bundle.manifest import Precision, Role, TokenSpec
from magvit_runtime.errors import InputError
from magvit_runtime.types import Flavour

HardwareCompatibility = Literal["none", "same-sm", "ampere-plus"]


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        flavour: "auto" takes what suits the GPU here; without one, what builds without one.
        role: What the engine does: "encode", "decode" or "features".
        precision: Which of the bundle's graphs; "tf32" is the fp32 graph with TF32 allowed.
        profile: Batch sizes, as minimum/optimum/maximum.
        frames, height, width: Size of a clip; of a decoder, that which it was before it became
            tokens. Models that have one size, as VideoMAE and CLIP do, take that.
        sm: Compute capability to build for, as "8.9" (tensorrt-rtx; tensorrt builds for the GPU
            of this machine). None builds a portable engine.
        hardware_compat: Which other GPUs a tensorrt engine runs on, at some cost in speed.
        version_compatible: Whether later TensorRT versions, and the lean runtime, may run it.
        strip_weights: Leaves the weights out of the plan, for your own tools that refit it. Our
            session runs only plans with weights.
        refit: Lets weights be replaced without a new build.
        workspace: Scratch memory that kernels may use, in MiB; None leaves it to TensorRT.
        opt_level: 0 (quick build) to 5; None is TensorRT's default.
        timing_cache: Keeps kernel timings between builds; None means on for tensorrt. It is never
            on for tensorrt-rtx, which would need a GPU for it.
    """

    flavour: Flavour | Literal["auto"] = "auto"
    role: Role = "encode"
    precision: Precision = "fp16"
    profile: str = "1/4/16"
    frames: int = 17
    height: int = 128
    width: int = 128
    sm: str | None = None
    hardware_compat: HardwareCompatibility = "none"
    version_compatible: bool = False
    strip_weights: bool = False
    refit: bool = False
    workspace: int | None = None
    opt_level: int | None = None
    timing_cache: bool | None = None

    def __post_init__(self) -> None:
        if self.opt_level is not None and not 0 <= self.opt_level <= 5:
            raise InputError("`opt_level` is out of range", found=self.opt_level, expected="0..5")
        if self.workspace is not None and self.workspace < 1:
            raise InputError("`workspace` must be positive", found=self.workspace)

    def shapes(self, *, video: bool, tokens: TokenSpec | None = None) -> ShapeRange:
        """The shapes of clips that the engine shall take: several batches of one size.

        Args:
            video: Whether a clip has frames.
            tokens: What part of a clip a token covers, where the engine takes tokens.

        Raises:
            InputError: `profile` or a size makes no sense.
        """
        sizes = (self.frames, self.height, self.width) if video else (self.height, self.width)
        try:
            minimum, optimum, maximum = (int(part) for part in self.profile.split("/"))
            if min(minimum, *sizes) < 1:
                raise ValueError("sizes must be positive")
            clip = (*sizes, 3) if tokens is None else _grid(sizes, tokens)
            return ShapeRange((minimum, *clip), (optimum, *clip), (maximum, *clip))
        except ValueError as error:
            raise InputError(
                "`profile` makes no sense",
                found=f"{self.profile!r} for clips of {list(sizes)} ({error})",
                expected="minimum/optimum/maximum batch, as 1/4/16",
            ) from error


def _grid(sizes: tuple[int, ...], tokens: TokenSpec) -> tuple[int, ...]:
    """Tokens of a clip of some size."""
    strides = (tokens.temporal_stride, tokens.spatial_stride, tokens.spatial_stride)
    return tuple(-(-n // stride) for n, stride in zip(sizes, strides[-len(sizes) :], strict=True))
