"""Decides what will be built, before the build: flavour, targets, key, file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from magvit_export.engines.options import BuildOptions, HardwareCompatibility
from magvit_runtime.backends.trt.engines import ENGINES_FOLDER
from magvit_runtime.bundle.engine_records import EngineKey, ShapeRange
from magvit_runtime.bundle.manifest import GraphRecord
from magvit_runtime.bundle.reading import Bundle, graph_sha256
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.hardware.flavours import (
    MODULES,
    RTX_PORTABLE,
    Flavour,
    InstalledFlavour,
    rtx_refusal,
)
from magvit_runtime.hardware.gpus import Gpu, gpu_slug
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.hardware.packages import is_installed, missing_package

AMPERE_AND_LATER = ("8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1")


@dataclass(frozen=True)
class BuildPlan:
    """What a build will do.

    Attributes:
        key: All that the engine depends on.
        plan: The plan file that it will write; its sidecar has the suffix .json.
        graph: The graph that it will read.
        reason: Why this flavour.
        timing_cache: File of kernel timings, of this GPU and version; None if none is kept.
        repeatable: Whether kernels are chosen by this file alone.
    """

    key: EngineKey
    plan: Path
    graph: GraphRecord
    reason: str
    timing_cache: Path | None
    repeatable: bool = False

    @property
    def sidecar(self) -> Path:
        """The JSON file beside the plan."""
        return self.plan.with_suffix(".json")


def plan_build(bundle: Bundle, options: BuildOptions, machine: Machine) -> BuildPlan:
    """Plans the build of an engine of a bundle; reads no graph and needs no TensorRT to run.

    Raises:
        InputError: The options contradict each other, the flavour or the bundle.
        BackendError: No installed flavour, or no plugin library, can do it on this machine; or
            Polygraphy isn't installed.
    """
    flavour, reason = choose_flavour(options, machine)
    if options.precision == "bf16":
        raise InputError(
            "our TensorRT plugins take float16 and float32, not bfloat16",
            mend="use --precision fp16",
        )
    sms, gpu_name = _targets(flavour, options, machine.gpu)
    precision, graph = bundle.graph(options.role, options.graph_precision)
    if options.role == "classify" and len(graph.inputs) > 1:
        raise InputError(
            "no engine is built of classifiers of several sources: our TensorRT sessions have one "
            "input",
            mend="classify with ONNX Runtime, which `magvit classify` takes by itself",
        )
    if len(graph.inputs) > 1:
        raise InputError(
            f"no engine is built of {options.role} graphs: their cache lies in the memory of the "
            "process, and our TensorRT sessions have one input",
            mend="generate with ONNX Runtime, which `magvit generate` takes by itself",
        )
    if not is_installed("polygraphy"):
        raise missing_package("polygraphy", "building an engine")
    if graph.operators and machine.plugin_interface is None:
        raise BackendError(
            "libmagvit_plugins.so is missing, so the engine would not have our kernels",
            mend="install magvit-runtime where nvcc and TensorRT's headers are "
            "(docs/engines.md, 'The plugin library')",
        )
    installed = machine.flavours[flavour]
    folder = bundle.path / ENGINES_FOLDER
    timing_cache = _timing_cache(folder, options, installed, machine.gpu)
    given = graph.inputs[0]
    takes_tokens = given.kind == "ids"
    shapes = options.shapes(
        video=len(given.shape) == (4 if takes_tokens else 5),
        tokens=bundle.tokens if takes_tokens else None,
    )
    if options.role in ("features", "classify", "classify-clips"):
        shapes = tuple(dict.fromkeys(_of_graph(one, given.shape) for one in shapes))
    key = EngineKey(
        role=options.role,
        flavour=flavour,
        version=installed.version,
        cuda=installed.cuda,
        sms=sms,
        gpu=gpu_name,
        precision=precision,
        profiles=tuple({given.name: one} for one in shapes),
        onnx_sha256=graph_sha256(bundle, graph),
        plugin_interface=machine.plugin_interface if graph.operators else None,
        options={
            "hardware_compat": options.hardware_compat,
            "version_compatible": options.version_compatible,
            "strip_weights": options.strip_weights,
            "refit": options.refit,
            "workspace": options.workspace,
            "opt_level": options.opt_level,
            "tf32": precision == "tf32",
        },
    )
    return BuildPlan(
        key=key,
        plan=folder / f"{key.name}.plan",
        graph=graph,
        reason=reason,
        timing_cache=timing_cache,
        repeatable=options.repeatable,
    )


def _timing_cache(
    folder: Path, options: BuildOptions, installed: InstalledFlavour, gpu: Gpu | None
) -> Path | None:
    """The file of kernel timings: TensorRT takes those of another GPU or version for none.

    Raises:
        InputError: A build is to repeat another one's choices, and there are none.
    """
    if installed.flavour != "tensorrt" or gpu is None or options.timing_cache is False:
        if options.repeatable:
            raise InputError(
                "--repeatable takes kernels from tensorrt's timing cache, and there is none",
                found="--no-timing-cache" if options.timing_cache is False else installed.flavour,
                mend="leave --repeatable out (docs/engines.md, 'Builds that repeat')",
            )
        return None
    file = folder / f"timing.{gpu_slug(gpu.name)}.{installed.version}.cache"
    if options.repeatable and not file.is_file():
        raise InputError(
            f"{file} is missing, so there are no kernels to take again",
            mend="build once without --repeatable, or copy the file from where that was done",
        )
    return file


def _of_graph(shapes: ShapeRange, given: tuple[int | str, ...]) -> ShapeRange:
    """A range in which the sizes that a graph fixes are the graph's own."""

    def fixed(shape: tuple[int, ...]) -> tuple[int, ...]:
        pairs = zip(shape, given, strict=True)
        return tuple(own if isinstance(own, int) else size for size, own in pairs)

    return ShapeRange(fixed(shapes.minimum), fixed(shapes.optimum), fixed(shapes.maximum))


def choose_flavour(options: BuildOptions, machine: Machine) -> tuple[Flavour, str]:
    """The flavour for this machine, and why.

    Raises:
        InputError: The options fit no flavour.
        BackendError: The flavour isn't installed, or can't build here.
    """
    sm = options.sm or (machine.gpu.sm if machine.gpu else None)
    refusal = None if sm is None else rtx_refusal(sm)
    if options.flavour == "auto":
        flavour, reason = _suitable_flavour(machine, options.sm, refusal)
    else:
        flavour, reason = options.flavour, "asked for"
    if flavour == "tensorrt-rtx" and refusal is not None:
        raise InputError(refusal, mend="use --flavour tensorrt on that GPU")
    if flavour not in machine.flavours:
        raise missing_package(MODULES[flavour], "building an engine")
    if flavour == "tensorrt":
        if machine.gpu is None:
            raise BackendError(
                "tensorrt builds on the GPU that the engine is for, and there is none here",
                mend="build on that machine, or use --flavour tensorrt-rtx",
            )
        if options.sm not in (None, machine.gpu.sm):
            raise InputError(
                "tensorrt builds for the GPU that is here",
                found=f"--sm {options.sm}",
                expected=machine.gpu.sm,
            )
    elif options.hardware_compat != "none" or options.version_compatible or options.timing_cache:
        raise InputError(
            "--hardware-compat, --version-compatible and --timing-cache are options of tensorrt; "
            "tensorrt-rtx engines are portable as they are",
            mend="leave them out, or use --flavour tensorrt",
        )
    elif machine.gpu is None and (options.strip_weights or options.refit):
        raise BackendError(
            "tensorrt-rtx needs a GPU to build an engine that can be refitted, "
            "and there is none here: without one it fails in graph_jit.cpp:278 "
            "(CHECK(status == CUDA_SUCCESS))",
            mend="leave --refit and --strip-weights out, or build on the GPU",
        )
    return flavour, reason


def _suitable_flavour(machine: Machine, sm: str | None, refusal: str | None) -> tuple[Flavour, str]:
    if refusal is not None:
        return "tensorrt", refusal
    if sm is not None and (machine.gpu is None or machine.gpu.sm != sm):
        return "tensorrt-rtx", f"it builds for compute capability {sm} without such a GPU"
    if machine.gpu is None:
        return "tensorrt-rtx", "there is no GPU here, and it builds without one"
    if "tensorrt" in machine.flavours:
        return "tensorrt", f"it tunes for the {machine.gpu.name} that is here"
    return "tensorrt-rtx", f"tensorrt isn't installed, and it supports the {machine.gpu.name}"


def _targets(
    flavour: Flavour, options: BuildOptions, gpu: Gpu | None
) -> tuple[tuple[str, ...], str | None]:
    """Compute capabilities, and the GPU's name if the engine is tuned for one model."""
    if flavour == "tensorrt-rtx":
        return (RTX_PORTABLE if options.sm is None else (options.sm,)), None
    assert gpu is not None  # `choose_flavour` made sure of it.
    by_compatibility: dict[HardwareCompatibility, tuple[tuple[str, ...], str | None]] = {
        "none": ((gpu.sm,), gpu.name),
        "same-sm": ((gpu.sm,), None),
        "ampere-plus": (AMPERE_AND_LATER, None),
    }
    return by_compatibility[options.hardware_compat]
