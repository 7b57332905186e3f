"""Finds the engines of a bundle, and says whether each runs here, and if not, why."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from magvit_runtime.bundle.engine_records import (
    ENGINE_SCHEMA_VERSION,
    Count,
    EngineRecord,
    Profile,
)
from magvit_runtime.bundle.files import check_file, decode_json, read_json
from magvit_runtime.bundle.manifest import GraphRecord, Precision
from magvit_runtime.bundle.reading import Bundle, graph_sha256, open_bundle
from magvit_runtime.errors import BundleError
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.types import Flavour

ENGINES_FOLDER = "engines"


@dataclass(frozen=True)
class Engine:
    """An engine of a bundle.

    Attributes:
        plan: The plan file.
        record: Its sidecar.
    """

    plan: Path
    record: EngineRecord


@dataclass(frozen=True)
class Mismatch:
    """The first thing that an engine needs and that this machine or bundle doesn't have.

    Attributes:
        what: Its name.
        engine: What the engine was built with or for.
        here: What this machine or bundle has.
    """

    what: str
    engine: str
    here: str


@dataclass(frozen=True)
class UnreadableEngine:
    """An engine whose sidecar can't be read, so it isn't known whether the engine fits.

    Attributes:
        plan: The plan file.
        why: What is wrong with the sidecar, and how to fix it.
    """

    plan: Path
    why: str

    @property
    def flavour(self) -> Flavour:
        """The flavour that the file's name tells, if any."""
        return "tensorrt-rtx" if self.plan.name.startswith("tensorrt-rtx") else "tensorrt"


def find_engines(bundle: Bundle) -> Iterator[Engine | UnreadableEngine]:
    """Engines of a bundle, by name.

    Raises:
        BundleError: Their folder is a link to outside the bundle.
    """
    folder = bundle.path / ENGINES_FOLDER
    if not folder.is_dir():
        return
    if not folder.resolve().is_relative_to(bundle.path.resolve()):
        raise BundleError(
            f"{folder} is a link to outside the bundle",
            found=folder.resolve(),
            mend="remove it and build again",
        )
    for sidecar in sorted(folder.glob("*.json")):
        plan = sidecar.with_suffix(".plan")
        try:
            yield Engine(plan, read_sidecar(sidecar))
        except BundleError as error:
            yield UnreadableEngine(plan, str(error))


def read_sidecar(path: Path) -> EngineRecord:
    """Reads the sidecar of a plan.

    Raises:
        BundleError: It can't be read, lies outside the bundle, is malformed, or of another schema
            version.
    """
    mend = "remove it and build again"
    check_file(path, path.parents[1], mend=mend)
    text = read_json(path)
    version = decode_json(path, text, _Versioned, mend=mend).schema_version
    if version == ENGINE_SCHEMA_VERSION:
        return decode_json(path, text, EngineRecord, mend=mend)
    if version == 1:
        old = decode_json(path, text, _SchemaOneRecord, mend=mend).key
        profile = old.profile
        batches = (profile.minimum, profile.optimum, profile.maximum)
        build = _build_command(path.parents[1], old.precision, [batches], [profile.clip])
        mend = f"rm {shlex.quote(str(path))} && {build}"
    raise BundleError(
        f"{path} has another schema version",
        found=version,
        expected=ENGINE_SCHEMA_VERSION,
        mend=mend,
    )


def first_mismatch(engine: Engine, bundle: Bundle, machine: Machine) -> Mismatch | None:
    """The first reason why an engine can't run here, in the order of what is cheapest to fix.

    The plan's own bytes are not read; `check_plan` does that.
    """
    key = engine.record.key
    graph = bundle.graphs(key.role).get(key.precision)
    onnx = None if graph is None else graph_sha256(bundle, graph)
    if onnx != key.onnx_sha256:
        return Mismatch("the bundle's ONNX graph", key.onnx_sha256[:12], (onnx or "none")[:12])
    if graph is not None and not all(_is_of(profile, graph) for profile in key.profiles):
        inputs = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in graph.inputs)
        return Mismatch("inputs", ", ".join(key.profiles[0]), inputs)
    installed = machine.flavours.get(key.flavour)
    if installed is None:
        return Mismatch(key.flavour, key.version, "not installed")
    if installed.version != key.version and not key.options.get("version_compatible"):
        return Mismatch(f"version of {key.flavour}", key.version, installed.version)
    if key.plugin_interface not in (None, machine.plugin_interface):
        ours = machine.plugin_interface
        here = "none" if ours is None else f"interface {ours}"
        return Mismatch("plugin library", f"interface {key.plugin_interface}", here)
    if machine.gpu is None:
        return Mismatch("GPU", key.gpu or f"compute capability {', '.join(key.sms)}", "none")
    if not _runs_on(key.sms, machine.gpu.sm, portable=key.flavour == "tensorrt-rtx"):
        return Mismatch("compute capability", ", ".join(key.sms), machine.gpu.sm)
    if key.gpu is not None and key.gpu != machine.gpu.name:
        return Mismatch("GPU", key.gpu, machine.gpu.name)
    return None


def is_stripped(engine: Engine) -> bool:
    """Whether a plan has no weights: it takes them from its graph whenever it is loaded."""
    return bool(engine.record.key.options.get("strip_weights"))


def check_plan(engine: Engine) -> None:
    """Compares a plan's bytes with its sidecar, before TensorRT sees them.

    Raises:
        BundleError: The plan is missing, lies outside the bundle, is stale or damaged.
    """
    check_file(engine.plan, engine.plan.parents[1], mend=rebuild_command(engine))
    recorded = engine.record.plan
    size = engine.plan.stat().st_size
    # A plan of another size is refused without a digest, which could take long.
    digest = file_sha256(engine.plan) if size == recorded.size else None
    if digest != recorded.sha256:
        raise BundleError(
            f"{engine.plan} is damaged",
            found=f"{size} bytes" + (f", sha256 {digest[:12]}" if digest else ""),
            expected=f"{recorded.size} bytes, sha256 {recorded.sha256[:12]}",
            mend=rebuild_command(engine),
        )


def rebuild_command(engine: Engine) -> str:
    """The command that builds an engine of the same shapes for the machine that runs it."""
    key, path = engine.record.key, engine.plan.parents[1]
    profiles = [next(iter(profile.values())) for profile in key.profiles]
    batches = [(one.minimum[0], one.optimum[0], one.maximum[0]) for one in profiles]
    items = [one.optimum[1:] for one in profiles]
    if key.role in ("decode", "classify"):
        items = [_decoded_shape(path, item) for item in items]
    command = _build_command(path, key.precision, batches, items)
    return command if key.role == "encode" else f"{command} --role {key.role}"


def _decoded_shape(path: Path, grid: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the clips that tokens become."""
    tokens = open_bundle(path).tokens
    sizes = tuple(n * tokens.spatial_stride for n in grid[-2:])
    frames = tuple((t - 1) * tokens.temporal_stride + 1 for t in grid[:-2])
    return (*frames, *sizes, 3)


class _Versioned(msgspec.Struct):
    schema_version: int


class _SchemaOneProfile(msgspec.Struct):
    minimum: Count
    optimum: Count
    maximum: Count
    clip: tuple[Count, ...]


class _SchemaOneKey(msgspec.Struct):
    precision: Precision
    profile: _SchemaOneProfile


class _SchemaOneRecord(msgspec.Struct):
    """The build command that follows from a sidecar of the first schema."""

    key: _SchemaOneKey


def _build_command(
    bundle: Path,
    precision: Precision,
    batches: Sequence[tuple[int, int, int]],
    clips: Sequence[tuple[int, ...]],
) -> str:
    profiles = ["/".join(map(str, batch)) for batch in batches]
    sizes = ""
    if len(set(clips)) > 1:
        pairs = zip(profiles, clips, strict=True)
        profiles = [f"{profile}@{'x'.join(map(str, clip[:-1]))}" for profile, clip in pairs]
    else:
        match clips[0]:
            case (frames, height, width, _):
                sizes = f" --frames {frames} --height {height} --width {width}"
            case (height, width, _):
                sizes = f" --height {height} --width {width}"
    return f"magvit build {bundle} --precision {precision} --profile {','.join(profiles)}{sizes}"


def _is_of(profile: Profile, graph: GraphRecord) -> bool:
    """Whether a profile has a shape for each of a graph's inputs."""
    ranks = {spec.name: len(spec.shape) for spec in graph.inputs}
    return ranks == {name: len(shapes.optimum) for name, shapes in profile.items()}


def _runs_on(sms: tuple[str, ...], sm: str, *, portable: bool) -> bool:
    # A portable engine also runs on GPUs that came after it.
    return sm in sms or (portable and "12.1" in sms and int(sm.split(".")[0]) > 12)
