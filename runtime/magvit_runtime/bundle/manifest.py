"""bundle.json, typed: the runtime reads everything that it knows about a model from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.bundle.generation import GenerationSpec as GenerationSpec
from magvit_runtime.bundle.generation import LogitMetrics as LogitMetrics
from magvit_runtime.bundle.graph_work import GraphWork as GraphWork
from magvit_runtime.bundle.pixel_rules import Postprocessing as Postprocessing
from magvit_runtime.bundle.pixel_rules import Preprocessing as Preprocessing
from magvit_runtime.bundle.record import Record as _Record
from magvit_runtime.bundle.record import Size
from magvit_runtime.errors import BundleError
from magvit_runtime.quantizers.specs import QuantizerSpec
from magvit_runtime.types import Precision as Precision

SCHEMA_VERSION = 2
EXPORT_AGAIN = "export it again with `magvit export`"

DType = Literal["uint8", "int32", "int64", "float16", "float32"]
# What a graph does. One bundle may hold several.
Role = Literal["encode", "decode", "features", "classify", "classify-clips", "context", "subtokens"]
# What the values of a tensor are. Checks, verification and reports depend on it.
Kind = Literal[
    "pixels",
    "ids",
    "latents",
    "margins",
    "features",
    "pooled",
    "logits",
    "probabilities",
    "uniforms",
    "state",
    "classes",
]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class TensorSpec(_Record, frozen=True):
    """One input or output of a graph.

    Attributes:
        name: Its name in the graph.
        dtype: NumPy name of its element type.
        shape: Sizes, the batch first; a string names a size that the caller chooses, or that
            follows from such a size.
        kind: What the values are, for the code that handles them.
        meaning: What the values are, with units, for people to read.
        minimum, maximum: Range of the values, inclusive; None if there is no bound.
    """

    name: str
    dtype: DType
    shape: Annotated[tuple[Size | str, ...], msgspec.Meta(min_length=1)]
    kind: Kind
    meaning: str
    minimum: float | None = None
    maximum: float | None = None


class GraphRecord(_Record, frozen=True):
    """One ONNX graph of the bundle.

    Attributes:
        file: The ONNX file, a key of `Manifest.files`.
        data: Files with its weights, keys of `Manifest.files`; graphs of one model share them.
        inputs, outputs: In the graph's order.
        operators: How many nodes it has of each of our operators that have a TensorRT plugin.
        preprocessing: What is done to its pixels; None where it takes none.
        postprocessing: How it makes pixels; None where it gives none.
        residual: "fp32" where a half-precision graph keeps its residual stream in float32.
        work: How much it computes; None where nobody counted.
    """

    file: str
    data: tuple[str, ...]
    inputs: Annotated[tuple[TensorSpec, ...], msgspec.Meta(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], msgspec.Meta(min_length=1)]
    operators: dict[str, int] = msgspec.field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    postprocessing: Postprocessing | None = None
    residual: Literal["fp32"] | None = None
    work: GraphWork | None = None

    def output_of(self, kind: Kind) -> TensorSpec:
        """The output of a kind.

        Raises:
            BundleError: There is none.
        """
        for spec in self.outputs:
            if spec.kind == kind:
                return spec
        raise BundleError(
            f"{self.file} gives no {kind}",
            found=", ".join(f"{spec.name} ({spec.kind})" for spec in self.outputs),
            mend=EXPORT_AGAIN,
        )


class TokenSpec(_Record, frozen=True):
    """How latents become integers, and which part of the clip each integer covers.

    Attributes:
        quantizer: What an id means.
        temporal_stride: Frames that a token covers, except the first token; 1 for images.
        spatial_stride: Pixels of height and of width that a token covers.
    """

    quantizer: QuantizerSpec
    temporal_stride: Size
    spatial_stride: Size


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


class Component(_Record, frozen=True):
    """One model of the bundle.

    Attributes:
        family: Its architecture's name.
        config: Its architecture, for people to read and for the exporter.
        weights: Where its weights came from.
    """

    family: str
    config: dict[str, Any]
    weights: WeightsRecord


class Head(_Record, frozen=True):
    """What was trained on top of the bundle's graphs.

    Attributes:
        graph: Role of its graph.
        labels: Name of each class, in the order of the probabilities.
        embedding: How ids enter: "bits", "factorized" or "table"; None where it takes none.
        training: What it was trained on and how well it did, for people to read.
        trained_on: Digest of each graph that made what it was trained on and that the bundle had
            then, by precision.
        drawing: How the trajectories that it was trained on were drawn; None where the clips came
            from something else, or the token file didn't say.
    """

    graph: Role
    labels: tuple[str, ...]
    embedding: Literal["bits", "factorized", "table"] | None
    training: dict[str, str | int | float]
    trained_on: dict[Precision, Sha256]
    drawing: DrawingRecord | None = None


class FileRecord(_Record, frozen=True):
    """Size in bytes and digest of a file of the bundle."""

    size: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Sha256


class SignMetrics(_Record, frozen=True, tag_field="kind", tag="signs"):
    """How ids that are signs of latents agree; `magvit_runtime.agreement.signs` has the terms.

    Attributes:
        rms, max: Latent error in σ_z.
        bits, flipped_bits, outside_margin: Bits compared, flipped, and flipped beyond the margin.
        tokens, changed_tokens: Tokens compared, and those with a flipped bit.
        wrong_ids: Ids that don't match the bits of their latents.
    """

    rms: float
    max: float
    bits: int
    flipped_bits: int
    outside_margin: int
    tokens: int
    changed_tokens: int
    wrong_ids: int


class MarginMetrics(_Record, frozen=True, tag_field="kind", tag="margins"):
    """How ids of a codebook agree; `magvit_runtime.agreement.margins` has the terms.

    Attributes:
        rms, max: Error of the margins, in standard deviations of the reference's margins.
        tokens, changed_tokens, outside_margin: Tokens compared, changed, and changed although the
            reference's margin was large.
    """

    rms: float
    max: float
    tokens: int
    changed_tokens: int
    outside_margin: int


class PixelMetrics(_Record, frozen=True, tag_field="kind", tag="pixels"):
    """How pixels agree; `magvit_runtime.agreement.pixels` has the terms.

    Attributes:
        rms, max: Error in levels of 0..255.
        values, changed_values: Values compared, three a pixel, and those that differ.
    """

    rms: float
    max: int
    values: int
    changed_values: int


class FeatureMetrics(_Record, frozen=True, tag_field="kind", tag="features"):
    """How features agree; `magvit_runtime.agreement.features` has the terms.

    Attributes:
        rms, max: Error, in units of the reference's rms.
        least_cosine: The smallest cosine of an item's features and the reference's.
        values: Values compared.
    """

    rms: float
    max: float
    least_cosine: float
    values: int


Metrics = SignMetrics | MarginMetrics | PixelMetrics | FeatureMetrics | LogitMetrics


class ParityStamp(_Record, frozen=True):
    """Proof that a graph or engine passed `magvit verify`. It holds for exactly these bytes.

    Attributes:
        sha256: Digest of the graph with its weights, or of the plan.
        reference: What it was compared with.
        metrics: The measured figures.
        clips_sha256: Digest of the clips, shapes and pixels.
        batch_sizes: Batch sizes that were run.
        versions: Versions of the software that took part.
        machine: The machine that it ran on, as text for people.
        created: When, ISO 8601 in UTC.
    """

    sha256: Sha256
    reference: str
    metrics: Metrics
    clips_sha256: Sha256
    batch_sizes: tuple[Size, ...]
    versions: dict[str, str]
    machine: str
    created: str


class Canary(_Record, frozen=True):
    """A few items and what a role gives for them (`magvit_runtime.bundle.canary`).

    Attributes:
        file: Its file, a key of `Manifest.files`.
        items: Names of the items, in their order.
        reference: What gave the outputs.
        created: When, ISO 8601 in UTC.
    """

    file: str
    items: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    reference: str
    created: str


class Manifest(_Record, frozen=True):
    """The whole of bundle.json.

    Attributes:
        schema_version: Version of this schema.
        model: Name of the model, as in the catalog or given at export.
        components: The models that its graphs are of, by name; the bundle is named after the
            first.
        graphs: Graphs by role and precision.
        files: Every file of the bundle, except bundle.json.
        made_by: Versions of the software that wrote it.
        created: When, ISO 8601 in UTC.
        tokens: What its ids mean; None if it has none.
        generation: What it makes of classes; None if it makes nothing.
        heads: What was trained on top, by name.
        stamps: Stamps of `magvit verify`, by role and subject: "encode onnxruntime fp16" for a
            graph in ONNX Runtime, "encode NAME.plan" for an engine.
        canaries: Items to try a session on, by role.
    """

    schema_version: int
    model: str
    components: Annotated[dict[str, Component], msgspec.Meta(min_length=1)]
    graphs: dict[Role, dict[Precision, GraphRecord]]
    files: dict[str, FileRecord]
    made_by: dict[str, str]
    created: str
    tokens: TokenSpec | None = None
    generation: GenerationSpec | None = None
    heads: dict[str, Head] = msgspec.field(default_factory=dict)
    stamps: dict[str, ParityStamp] = msgspec.field(default_factory=dict)
    canaries: dict[Role, Canary] = msgspec.field(default_factory=dict)

    @property
    def component(self) -> Component:
        """The model that the bundle is named after."""
        return next(iter(self.components.values()))
