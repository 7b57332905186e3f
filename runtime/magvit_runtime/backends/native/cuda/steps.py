"""The steps of one run on a GPU: what is launched, on which buffers.

`schedule` says in which order. Steps name buffers; `launches` knows where these lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from magvit_runtime.backends.native.codebook import CodebookSearch
from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry
from magvit_runtime.backends.native.cuda.maps import CudaMap
from magvit_runtime.backends.native.decoder_steps import (
    AdaptiveNormalization,
    CodebookRows,
    PixelRounding,
    Repetition,
    SignCodes,
)
from magvit_runtime.backends.native.program import (
    LookupFreeQuantization,
    PixelNormalization,
    Sizes,
)
from magvit_runtime.types import FloatType


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
class Moments:
    """One mean, scale and shift a channel, by which a step of the program normalises.

    Attributes:
        reader: Index of that step, a conv or an adaptive norm.
        buffer: Where they are.
        vectors: Where each clip's scales are, and after them its shifts; None for a conv's, which
            are parameters.
    """

    reader: int
    buffer: str
    vectors: str | None = None


@dataclass(frozen=True)
class Pixels:
    """Frames to normalised values, for a reader of them."""

    normalization: PixelNormalization
    output: CudaMap


@dataclass(frozen=True)
class UnfoldedPixels:
    """Frames to the normalised values of a conv's windows, each window as one position's channels.

    `geometry` is of the conv over the pixels, whose channels aren't padded here.
    """

    normalization: PixelNormalization
    geometry: ConvGeometry
    pixel_channels: int
    output: CudaMap


@dataclass(frozen=True)
class Codes:
    """Ids to 1 and -1, for a reader of them."""

    codes: SignCodes
    output: CudaMap


@dataclass(frozen=True)
class Rows:
    """Ids to the rows of the codebook that is a parameter of step `index`, for a reader of them."""

    index: int
    rows: CodebookRows
    output: CudaMap


@dataclass(frozen=True)
class Repeat:
    """Positions repeated, for a reader of them."""

    repetition: Repetition
    features: CudaMap
    output: CudaMap


@dataclass(frozen=True)
class Statistics:
    """Moments of features plus what is added.

    The sum goes to `total`, which is `features` if nothing is added.
    """

    features: CudaMap
    added: Added
    total: CudaMap
    moments: Moments


@dataclass(frozen=True)
class Apply:
    """Features plus what is added, rounded to `sum_type`; normalised unless `moments` is None."""

    features: CudaMap
    added: Added
    sum_type: FloatType
    moments: Moments | None
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
class OwnConvolution:
    """The conv that is step `index` of the program, by our own kernel, plus what is added.

    It also takes the moments of its output, unless `moments` is None.
    """

    index: int
    geometry: ConvGeometry
    input: CudaMap
    added: Added
    output: CudaMap
    moments: Moments | None


@dataclass(frozen=True)
class Vectors:
    """Scales, shifts or both of each clip, for the adaptive norm that is step `index`."""

    index: int
    norm: AdaptiveNormalization
    of: tuple[Literal["scale", "shift"], ...]
    features: CudaMap
    vectors: str


@dataclass(frozen=True)
class ToSpace:
    """Features plus a bias, rounded to the output's type; blocks of positions out of channels."""

    features: CudaMap
    bias_of: int | None
    block: Sizes
    output: CudaMap


@dataclass(frozen=True)
class Attend:
    """Attention of queries, keys and values, to each of which a bias may be added."""

    maps: tuple[CudaMap, CudaMap, CudaMap]
    biases_of: tuple[int | None, int | None, int | None]
    output: CudaMap
    products: str


@dataclass(frozen=True)
class Quantize:
    """Latents to ids."""

    quantization: LookupFreeQuantization
    latents: CudaMap


@dataclass(frozen=True)
class Search:
    """Latents to ids and margins, by the codebook that is a parameter of step `index`."""

    index: int
    search: CodebookSearch
    latents: CudaMap
    workspace: str


@dataclass(frozen=True)
class ToBytes:
    """Features plus a bias to bytes."""

    rounding: PixelRounding
    features: CudaMap
    bias_of: int | None


@dataclass(frozen=True)
class Give:
    """A value to the caller's float32 map with channels first, if that is asked for."""

    value: str
    features: CudaMap


Step = (
    Pixels
    | UnfoldedPixels
    | Codes
    | Rows
    | Repeat
    | Statistics
    | Apply
    | Convolution
    | OwnConvolution
    | Vectors
    | ToSpace
    | Attend
    | Quantize
    | Search
    | ToBytes
    | Give
)


def maps_of(step: Step) -> tuple[CudaMap, ...]:
    """The maps that a step reads or writes."""
    maps: tuple[CudaMap | None, ...]
    match step:
        case Pixels(_, output) | Codes(_, output) | Rows(_, _, output):
            maps = (output,)
        case UnfoldedPixels():
            maps = (step.output,)
        case Repeat(_, features, output) | ToSpace(features, _, _, output):
            maps = (features, output)
        case Statistics(features, added, output, _) | Apply(features, added, _, _, output):
            maps = (features, added.residual, output)
        case Convolution(_, _, features, output, _):
            maps = (features, output)
        case OwnConvolution(_, _, features, added, output, _):
            maps = (features, added.residual, output)
        case Attend(read, _, output, _):
            maps = (*read, output)
        case Vectors() | ToBytes() | Give():
            maps = (step.features,)
        case Quantize() | Search():
            maps = (step.latents,)
    return tuple(one for one in maps if one is not None)


def extras_of(step: Step) -> tuple[str, ...]:
    """The buffers besides maps that a step reads or writes."""
    match step:
        case (
            Statistics(moments=Moments(_, buffer, vectors))
            | OwnConvolution(moments=Moments(_, buffer, vectors))
        ):
            return (buffer,) if vectors is None else (buffer, vectors)
        case Apply(_, _, _, Moments(_, buffer, _), _):
            return (buffer,)
        case Convolution() | Search():
            return (step.workspace,)
        case Vectors():
            return (step.vectors,)
        case Attend():
            return (step.products,)
        case _:
            return ()
