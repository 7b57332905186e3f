"""What an engine depends on, and the sidecar that says it beside every plan.

The plan file is raw, as TensorRT gives and takes it. All that is known of it stands in a JSON file
of the same name, so an engine that doesn't fit is named and refused before TensorRT sees it.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

from magvit_runtime.hardware.flavours import Flavour
from magvit_runtime.manifest import FileRecord, Precision

ENGINE_SCHEMA_VERSION = 1

Count = Annotated[int, msgspec.Meta(ge=1)]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all records: immutable, and unknown fields are refused."""


class BatchProfile(_Record, frozen=True):
    """Shapes that an engine takes: batches from minimum to maximum, of clips of one size.

    Attributes:
        minimum, optimum, maximum: Clips at once; kernels are chosen for the optimum.
        clip: Shape of one clip: [T, H, W, 3], or [H, W, 3] for images.
    """

    minimum: Count
    optimum: Count
    maximum: Count
    clip: tuple[Count, ...]

    def __post_init__(self) -> None:
        if not self.minimum <= self.optimum <= self.maximum:
            raise ValueError("a profile is minimum ≤ optimum ≤ maximum")


class EngineKey(_Record, frozen=True):
    """All that an engine depends on. Engines of equal keys are interchangeable.

    Attributes:
        flavour: Flavour that built it.
        version: Version of that flavour.
        cuda: Major version of CUDA that the flavour was built for.
        sms: Compute capabilities it runs on.
        gpu: Name of the only GPU it was tuned for; None where it was built for several.
        precision: Precision of the graph.
        profile: Shapes it takes.
        onnx_sha256: Digest of the graph, its weights included.
        plugin_sha256: Digest of the plugin library.
        options: Builder options that change the engine, by name.
    """

    flavour: Flavour
    version: str
    cuda: str
    sms: tuple[str, ...]
    gpu: str | None
    precision: Precision
    profile: BatchProfile
    onnx_sha256: str
    plugin_sha256: str
    options: dict[str, str | int | bool | None]

    @property
    def name(self) -> str:
        """File name of the engine, without suffix: readable, and unique to the key."""
        digest = hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()
        target = "portable" if self.gpu is None and len(self.sms) > 1 else f"sm{self.sms[0]}"
        return f"{self.flavour}-{self.precision}-{target}-{digest[:12]}"


class LayerRecord(_Record, frozen=True):
    """One layer of the network.

    Attributes:
        name: As in the ONNX file.
        type: TensorRT's name of its kind.
        precision: Type of its first output.
        format: Memory format of its first output, where the built engine could be asked.
    """

    name: str
    type: str
    precision: str
    format: str | None = None


class EngineRecord(_Record, frozen=True):
    """The sidecar of a plan.

    Attributes:
        schema_version: Version of this schema.
        key: What the engine depends on.
        plan: Size and digest of the plan file.
        layers: Layers of the network that was built.
        plugin_layers: How many layers each of our plugins took over.
        build_seconds: Time of the build.
        machine: Where it was built, for people to read.
        created: When, ISO 8601 in UTC.
    """

    schema_version: int
    key: EngineKey
    plan: FileRecord
    layers: tuple[LayerRecord, ...]
    plugin_layers: dict[str, int]
    build_seconds: float
    machine: str
    created: str
