"""What an engine depends on, and the sidecar beside every plan that records it.

The plan file is raw, as TensorRT writes and reads it. A JSON file of the same name has all that is
known about the plan, so an engine that doesn't fit is named and refused before TensorRT sees it.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

from magvit_runtime.bundle.manifest import FileRecord, Precision, Role
from magvit_runtime.hardware.flavours import Flavour

ENGINE_SCHEMA_VERSION = 2

Count = Annotated[int, msgspec.Meta(ge=1)]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all records: immutable, and unknown fields are refused."""


class ShapeRange(_Record, frozen=True):
    """Shapes that an engine takes for one input; the first size is the batch.

    Attributes:
        minimum, maximum: Smallest and largest size of each dimension.
        optimum: The shape that kernels are chosen for.
    """

    minimum: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    optimum: tuple[Count, ...]
    maximum: tuple[Count, ...]

    def __post_init__(self) -> None:
        ranks = {len(self.minimum), len(self.optimum), len(self.maximum)}
        sizes = zip(self.minimum, self.optimum, self.maximum, strict=False)
        if len(ranks) > 1 or not all(low <= best <= high for low, best, high in sizes):
            raise ValueError("a profile is minimum ≤ optimum ≤ maximum")


# A profile of an engine: the shapes of each input by its name.
Profile = Annotated[dict[str, ShapeRange], msgspec.Meta(min_length=1)]


class EngineKey(_Record, frozen=True):
    """All that an engine depends on. Engines of equal keys are interchangeable.

    Attributes:
        role: What its graph does.
        flavour: Flavour that built it.
        version: Version of that flavour.
        cuda: Major version of CUDA that the flavour was built for.
        sms: Compute capabilities it runs on.
        gpu: Name of the only GPU it was tuned for; None if it was built for several.
        precision: Precision of the graph.
        profiles: Shapes it takes; TensorRT chooses kernels for each.
        onnx_sha256: Digest of the graph, its weights included.
        plugin_interface: `PLUGIN_INTERFACE` of the plugins that it calls; None if it calls none.
        options: Builder options that change the engine, by name.
    """

    role: Role
    flavour: Flavour
    version: str
    cuda: str
    sms: tuple[str, ...]
    gpu: str | None
    precision: Precision
    profiles: Annotated[tuple[Profile, ...], msgspec.Meta(min_length=1)]
    onnx_sha256: str
    plugin_interface: int | None
    options: dict[str, str | int | bool | None]

    @property
    def name(self) -> str:
        """File name of the engine, without suffix: readable, and unique to the key."""
        digest = hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()
        target = "portable" if self.gpu is None and len(self.sms) > 1 else f"sm{self.sms[0]}"
        return f"{self.flavour}-{self.role}-{self.precision}-{target}-{digest[:12]}"


class LayerRecord(_Record, frozen=True):
    """One layer of the network.

    Attributes:
        name: As in the ONNX file.
        type: TensorRT's name of its kind.
        precision: Type of its first output.
        format: Memory format of its first output, if the built engine could tell.
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
        plugin_sha256: Digest of the plugin library that it was built with, for people to read; None
            if it calls none.
        build_seconds: Time of the build.
        machine: Where it was built, for people to read.
        created: When, ISO 8601 in UTC.
        canary_outputs: Digest of what it gave on the bundle's canary right after the build; two
            engines of equal digests give the same. None if it wasn't run then.
        structure_sha256: Of an engine that takes other weights, digest of its graph without them:
            `magvit refit` gives it those of a graph with the same. None of others.
        timing_cache_sha256: Digest of the kernel timings that its kernels were chosen by, once it
            was built; None where there are none.
    """

    schema_version: int
    key: EngineKey
    plan: FileRecord
    layers: tuple[LayerRecord, ...]
    plugin_layers: dict[str, int]
    plugin_sha256: str | None
    build_seconds: float
    machine: str
    created: str
    canary_outputs: str | None = None
    structure_sha256: str | None = None
    timing_cache_sha256: str | None = None
