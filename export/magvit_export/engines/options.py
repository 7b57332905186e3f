"""The options of an engine that a user can choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from magvit_export.engines.profiles import Batches, read_profiles
from magvit_runtime.bundle.engine_records import ShapeRange
from magvit_runtime.bundle.manifest import Precision, Role, TokenSpec
from magvit_runtime.errors import InputError
from magvit_runtime.types import Flavour, Shape

HardwareCompatibility = Literal["none", "same-sm", "ampere-plus"]


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        flavour: "auto" takes what suits the GPU here; without one, what builds without one.
        role: What the engine does: "encode", "decode", "features", "classify" (ids to
            probabilities) or "classify-clips" (clips to probabilities).
        precision: Which of the bundle's graphs; "tf32" is the fp32 graph with TF32 allowed. None is
            fp16, or fp32 of classifiers of ids, which come in no other.
        profile: Batch sizes, as minimum/optimum/maximum; several profiles are separated by commas.
            A single number takes what the one before it doesn't, as in 1,4,8,16; @ gives a profile
            clips of its own size, as in 1/4/16,1/1/2@17x256x256.
        frames, height, width: Size of a clip; of a decoder, that which it was before it became
            tokens. Models that have one size, as VideoMAE, CLIP and classifiers do, take that.
        sm: Compute capability to build for, as "8.9" (tensorrt-rtx; tensorrt builds for the GPU
            of this machine). None builds a portable engine.
        hardware_compat: Which other GPUs a tensorrt engine runs on, at some cost in speed.
        version_compatible: Whether later TensorRT versions, and the lean runtime, may run it.
        strip_weights: Leaves the weights out of the plan; sessions take them from the graph.
        refit: Lets weights be replaced without a new build, by `magvit refit`.
        workspace: Scratch memory that kernels may use, in MiB; None leaves it to TensorRT.
        opt_level: 0 (quick build) to 5; None is TensorRT's default.
        timing_cache: Keeps kernel timings between builds; None means on for tensorrt. It is never
            on for tensorrt-rtx, which would need a GPU for it.
        repeatable: Takes kernels only as an earlier build's timings chose them, and fails where
            they don't say.
    """

    flavour: Flavour | Literal["auto"] = "auto"
    role: Role = "encode"
    precision: Precision | None = None
    profile: Annotated[str, Parameter(name=["--profile", "--profiles"])] = "1/4/16"
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
    repeatable: bool = False

    def __post_init__(self) -> None:
        if self.opt_level is not None and not 0 <= self.opt_level <= 5:
            raise InputError("`opt_level` is out of range", found=self.opt_level, expected="0..5")
        if self.workspace is not None and self.workspace < 1:
            raise InputError("`workspace` must be positive", found=self.workspace)

    @property
    def graph_precision(self) -> Precision:
        """The precision, also where none was given."""
        return self.precision or ("fp32" if self.role == "classify" else "fp16")

    def shapes(self, *, video: bool, tokens: TokenSpec | None = None) -> tuple[ShapeRange, ...]:
        """The shapes of clips that the engine shall take: of each profile, batches of one size.

        Args:
            video: Whether a clip has frames.
            tokens: What part of a clip a token covers, where the engine takes tokens.

        Raises:
            InputError: `profile` or a size makes no sense.
        """
        usual = (self.frames, self.height, self.width) if video else (self.height, self.width)
        try:
            profiles = read_profiles(self.profile, usual)
            return tuple(_shapes(batches, sizes, tokens) for batches, sizes in profiles)
        except ValueError as error:
            raise InputError(
                "`profile` makes no sense",
                found=f"{self.profile!r} for clips of {list(usual)} ({error})",
                expected="minimum/optimum/maximum batch, as 1/4/16, or several, as 1,4,8,16",
            ) from error


def _shapes(batches: Batches, sizes: Shape, tokens: TokenSpec | None) -> ShapeRange:
    clip = (*sizes, 3) if tokens is None else _grid(sizes, tokens)
    minimum, optimum, maximum = batches
    return ShapeRange((minimum, *clip), (optimum, *clip), (maximum, *clip))


def _grid(sizes: tuple[int, ...], tokens: TokenSpec) -> tuple[int, ...]:
    """Tokens of a clip of some size."""
    strides = (tokens.temporal_stride, tokens.spatial_stride, tokens.spatial_stride)
    return tuple(-(-n // stride) for n, stride in zip(sizes, strides[-len(sizes) :], strict=True))
