"""The messages between `magvit build` and the process that runs TensorRT."""

from __future__ import annotations

import msgspec

from magvit_runtime.bundle.engine_records import EngineKey, LayerRecord


class BuildRequest(msgspec.Struct, frozen=True):
    """What to build. Paths are absolute.

    Attributes:
        key: All that the engine depends on.
        onnx: The graph.
        plugins: The plugin library; None if the graph has no operator of ours.
        operators: How many nodes the graph has of each of our operators.
        plan: Where to write the plan.
        timing_cache: File of kernel timings, read and written; None for none.
        repeatable: Whether it is only read, and a kernel that it doesn't choose is an error.
    """

    key: EngineKey
    onnx: str
    plugins: str | None
    operators: dict[str, int]
    plan: str
    timing_cache: str | None
    repeatable: bool = False


class Progress(msgspec.Struct, frozen=True, tag=True):
    """A step of a phase is done."""

    phase: str
    step: int
    steps: int


class Built(msgspec.Struct, frozen=True, tag=True):
    """The plan is written."""

    layers: tuple[LayerRecord, ...]
    plugin_layers: dict[str, int]
    seconds: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """TensorRT refused, failed, or was interrupted; `message` is its last error."""

    during: str
    message: str
    interrupted: bool = False


Event = Progress | Built | Failed
