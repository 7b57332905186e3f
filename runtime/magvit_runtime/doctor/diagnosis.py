"""Examines this machine and a bundle's engines, and loads nothing that could crash."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from magvit_runtime.backends.backend import Candidate, Opening, Unfit
from magvit_runtime.backends.canary import run_canary
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.backends.trt.engines import ENGINES_FOLDER
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import BackendError, BundleError
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.hardware.flavours import (
    INSTALL,
    Flavour,
    import_flavour,
    rtx_refusal,
)
from magvit_runtime.hardware.gpus import Gpu
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.native_libraries.lookup import operators_library, plugin_library

# Those that candidates are listed of.
EXAMINED_ROLES: tuple[Role, ...] = (
    *("encode", "decode", "features", "classify", "classify-clips"),
    *("context", "subtokens"),
)


@dataclass(frozen=True)
class PluginLibrary:
    """The file of our TensorRT plugins.

    Attributes:
        path: Where it is.
        sha256: Its digest.
        targets: Architectures that it has machine code for. It also has PTX of the newest, which
            the driver compiles for later architectures.
    """

    path: str
    sha256: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Health:
    """The hardware and software of this machine.

    Attributes:
        gpus: NVIDIA GPUs.
        flavours: Version of each TensorRT flavour, or why it can't be used.
        rtx_refusals: Why TensorRT-RTX doesn't work for a compute capability of this machine.
        onnxruntime_providers: Execution providers of the installed ONNX Runtime.
        plugin_library: Our TensorRT plugins; None if they weren't built.
        operators_library: Our CPU operators; None if they weren't built.
        native_backend: What the native backend's convs use on this CPU, or why it can't run.
        native_cuda: What its convs use on a GPU, or what is missing or too old for them.
    """

    gpus: tuple[Gpu, ...]
    flavours: dict[Flavour, str]
    rtx_refusals: dict[str, str]
    onnxruntime_providers: tuple[str, ...]
    plugin_library: PluginLibrary | None
    operators_library: str | None
    native_backend: str
    native_cuda: str


@dataclass(frozen=True)
class WayHealth:
    """Whether one way to run a role of a bundle can be taken here.

    Attributes:
        role: What it does.
        subject: The plan file of an engine; backend and precision of a graph.
        is_engine: Whether it is an engine.
        runs: Whether it can run.
        problem: The first reason why it can't; "" if there is none.
        mend: How to fix that; "" if there is nothing to fix.
        tried: Whether it was opened to run the bundle's canary.
        outputs: Digest of its ids on the canary, or of all that it gives; "" where it gave none.
    """

    role: Role
    subject: str
    is_engine: bool
    runs: bool
    problem: str
    mend: str
    tried: bool = False
    outputs: str = ""


def examine(machine: Machine) -> Health:
    """Examines a machine."""
    refusals = {gpu.sm: rtx_refusal(gpu.sm) for gpu in machine.gpus}
    operators = operators_library()
    return Health(
        gpus=machine.gpus,
        flavours=_flavour_states(machine),
        rtx_refusals={sm: refusal for sm, refusal in refusals.items() if refusal},
        onnxruntime_providers=_onnxruntime_providers(),
        plugin_library=_examine_plugins(),
        operators_library=None if operators is None else str(operators),
        native_backend=_native_state(),
        native_cuda=_native_cuda_state(),
    )


def examine_bundle(bundle: Bundle, machine: Machine, *, run: bool = False) -> list[WayHealth]:
    """Examines every way to run a bundle's encoder and decoder: first graphs, then engines by name.

    Files of graphs and engines that fit the machine are compared with their digests.

    Args:
        bundle: The bundle.
        machine: The machine.
        run: Open each, and try it on the bundle's canary.
    """
    ways = []
    for role in EXAMINED_ROLES:
        found = list_candidates(bundle, role, machine)
        ways += [_examine_way(bundle, way, run) for way in (*found.graphs, *found.engines)]
    return ways


def _examine_way(bundle: Bundle, way: Candidate | Unfit, run: bool) -> WayHealth:
    place = bundle.path / ENGINES_FOLDER / way.subject
    subject = str(place) if way.is_engine else way.subject
    if isinstance(way, Unfit):
        return WayHealth(way.role, subject, way.is_engine, False, way.why, way.fix)
    outputs = ""
    try:
        if run:
            outputs = _outputs(bundle, way)
        else:
            way.check()
    except (BundleError, BackendError) as error:
        problem = error.what + (f": found {error.found}" if error.found else "")
        return WayHealth(way.role, subject, way.is_engine, False, problem, error.mend or "", run)
    return WayHealth(way.role, subject, way.is_engine, True, "", "", run, outputs)


def _outputs(bundle: Bundle, way: Candidate) -> str:
    session = way.open(Opening("examined"))
    try:
        return run_canary(bundle, way, session)
    finally:
        session.close()


def cuda_targets(library: Path) -> tuple[str, ...]:
    """Architectures that a library has machine code for, as "sm_86".

    Read from the file itself: the fat binary keeps the assembler's command line for each.
    """
    names = re.findall(rb"-arch (sm_\d+[af]?)", library.read_bytes())
    return tuple(sorted({name.decode() for name in names}, key=lambda name: (len(name), name)))


def _flavour_states(machine: Machine) -> dict[Flavour, str]:
    states: dict[Flavour, str] = {}
    for flavour in INSTALL:
        if flavour not in machine.flavours:
            states[flavour] = f"not installed ({INSTALL[flavour]})"
            continue
        try:
            states[flavour] = str(import_flavour(flavour).__version__)
        except BackendError as error:
            states[flavour] = str(error)
    return states


def _native_state() -> str:
    from magvit_runtime.backends.native.cpu.convs import instruction_set

    try:
        return f"CPU, {instruction_set()}"
    except BackendError as error:
        return str(error)


def _native_cuda_state() -> str:
    from magvit_runtime.backends.native.cuda.cudnn_graph import import_cudnn, version_text

    try:
        return f"cuDNN {version_text(int(import_cudnn().backend_version()))}"
    except BackendError as error:
        return str(error)


def _onnxruntime_providers() -> tuple[str, ...]:
    if find_spec("onnxruntime") is None:
        return ()
    import onnxruntime

    return tuple(onnxruntime.get_available_providers())


def _examine_plugins() -> PluginLibrary | None:
    path = plugin_library()
    if path is None:
        return None
    return PluginLibrary(str(path), file_sha256(path), cuda_targets(path))
