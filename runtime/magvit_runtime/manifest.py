"""bundle.json, typed: everything the runtime knows about a model, it reads here."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from magvit_runtime.types import Precision as Precision

SCHEMA_VERSION = 1

DType = Literal["uint8", "int32", "int64", "float16", "float32"]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, msgspec.Meta(ge=1)]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all records: immutable, and unknown fields are refused."""


class TensorSpec(_Record, frozen=True):
    """One input or output of a graph.

    Attributes:
        name: Its name in the graph.
        dtype: NumPy name of its element type.
        shape: Sizes; a string names a size that the caller chooses, or that follows from one.
        meaning: What the values are, with units.
        minimum, maximum: Range of the values, inclusive; None where there is no bound.
    """

    name: str
    dtype: DType
    shape: tuple[Size | str, ...]
    meaning: str
    minimum: float | None = None
    maximum: float | None = None


class GraphRecord(_Record, frozen=True):
    """One ONNX graph of the bundle.

    Attributes:
        file: The ONNX file, a key of `Manifest.files`.
        data: Files with its weights beside it, keys of `Manifest.files`.
        inputs, outputs: In the graph's order.
        residual: "fp32" where a half-precision graph keeps its residual stream in float32.
    """

    file: str
    data: tuple[str, ...]
    inputs: Annotated[tuple[TensorSpec, ...], msgspec.Meta(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], msgspec.Meta(min_length=1)]
    residual: Literal["fp32"] | None = None


class TokenSpec(_Record, frozen=True):
    """How latents become integers, and which part of the clip each integer covers.

    Attributes:
        bits: Bits a token; ids are in 0 .. 2^bits - 1.
        bit_order: "lsb-first": latent channel 0 is the least significant bit.
        temporal_stride: Frames a token covers, but for the first; 1 for images.
        spatial_stride: Pixels of height and of width a token covers.
    """

    bits: Annotated[int, msgspec.Meta(ge=1, le=31)]
    bit_order: Literal["lsb-first"]
    temporal_stride: Size
    spatial_stride: Size


class Preprocessing(_Record, frozen=True):
    """What the graph does to its input; callers do none of it.

    Attributes:
        layout: Order of the input's axes.
        color: Order of the colour channels.
        formula: Normalisation, of a byte x.
    """

    layout: Literal["NTHWC", "NHWC"]
    color: Literal["RGB"]
    formula: str


class WeightsRecord(_Record, frozen=True):
    """Where the weights came from.

    Attributes:
        source: "file", "hub", or "seeded" (generated from key names, never trained).
        name: File name, hub repository and file, or the seed.
        variant: Moving average or raw; None for seeded weights.
        sha256: Digest of the checkpoint file; None for seeded weights.
    """

    source: Literal["file", "hub", "seeded"]
    name: str
    variant: Literal["ema", "raw"] | None = None
    sha256: Sha256 | None = None


class ClassifierRecord(_Record, frozen=True):
    """The classifier over this tokenizer's ids.

    Attributes:
        graph: Its graph: ids in, probabilities out.
        labels: Name of each class, in the order of the probabilities.
        embedding: How ids enter: "bits", "factorized" or "table".
        training: What it was trained on and how well it did, for people to read.
    """

    graph: GraphRecord
    labels: tuple[str, ...]
    embedding: Literal["bits", "factorized", "table"]
    training: dict[str, str | int | float]


class FileRecord(_Record, frozen=True):
    """Size in bytes and digest of a file of the bundle."""

    size: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Sha256


class ParityMetrics(_Record, frozen=True):
    """What a verification measured; `magvit_runtime.parity` defines the terms.

    Attributes:
        rms, max: Latent error in σ_z.
        bits, flipped_bits, outside_margin: Bits compared, flipped, and flipped beyond the margin.
        tokens, changed_tokens: Tokens compared, and those with a flipped bit.
        wrong_ids: Ids that don't spell the bits of their latents.
    """

    rms: float
    max: float
    bits: int
    flipped_bits: int
    outside_margin: int
    tokens: int
    changed_tokens: int
    wrong_ids: int


class ParityStamp(_Record, frozen=True):
    """Proof that a graph or engine passed `magvit verify`. It holds for these very bytes alone.

    Attributes:
        sha256: Digest of the graph with its weights, or of the plan.
        reference: What it was compared with.
        metrics: What was measured.
        clips_sha256: Digest of the clips, shapes and pixels.
        batch_sizes: Batch sizes that were run.
        versions: Versions of the software that took part.
        machine: What it ran on, for people to read.
        created: When, ISO 8601 in UTC.
    """

    sha256: Sha256
    reference: str
    metrics: ParityMetrics
    clips_sha256: Sha256
    batch_sizes: tuple[Size, ...]
    versions: dict[str, str]
    machine: str
    created: str


class Manifest(_Record, frozen=True):
    """The whole of bundle.json.

    Attributes:
        schema_version: Version of this schema.
        model: Name of the model, as in the catalog or given at export.
        task: What the bundle is for.
        config: The architecture that was exported, for people to read.
        weights: Where its weights came from.
        preprocessing: What the encoder does to its input.
        tokens: Token specification.
        encoder: Encoder graph of each precision.
        files: Every file that the bundle consists of, but for bundle.json.
        made_by: Versions of the software that wrote it.
        created: When, ISO 8601 in UTC.
        classifier: The classifier, where one was trained.
        parity: Stamps of what passed `magvit verify`, by its name: "onnxruntime fp16" for a graph
            in ONNX Runtime, the plan's file name for an engine.
    """

    schema_version: int
    model: str
    task: Literal["video-tokenization", "image-tokenization"]
    config: dict[str, int | bool | list[int]]
    weights: WeightsRecord
    preprocessing: Preprocessing
    tokens: TokenSpec
    encoder: dict[Precision, GraphRecord]
    files: dict[str, FileRecord]
    made_by: dict[str, str]
    created: str
    classifier: ClassifierRecord | None = None
    parity: dict[str, ParityStamp] = {}
