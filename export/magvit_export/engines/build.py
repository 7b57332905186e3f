"""Writes a plan and its sidecar into the bundle: the whole of `magvit build`."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec

from magvit_export.bundle_writer import timestamp
from magvit_export.engines.failures import build_error
from magvit_export.engines.planning import BuildPlan
from magvit_export.engines.protocol import BuildRequest, Built, Event, Failed, Progress
from magvit_runtime.backends.trt.engines import Engine, check_plan, read_sidecar
from magvit_runtime.bundle.engine_records import ENGINE_SCHEMA_VERSION, EngineRecord
from magvit_runtime.bundle.manifest import FileRecord
from magvit_runtime.bundle.onnx_weights import structure_sha256
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import BundleError, InputError
from magvit_runtime.files.atomic_write import naming_full_disks
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.files.locks import folder_lock
from magvit_runtime.files.temporary import temporary_folder
from magvit_runtime.hub.fetching import refuse_hub
from magvit_runtime.native_libraries.lookup import plugin_library
from magvit_runtime.types import Flavour

RTX_LIBRARY = "libtensorrt_rtx.so"
SECONDS_TO_STOP = 60


@dataclass(frozen=True)
class BuildResult:
    """The result of a build in the bundle.

    Attributes:
        engine: Plan and sidecar.
        was_there: Whether an engine of the same key was already there, so nothing was built.
    """

    engine: Engine
    was_there: bool


def build_engine(
    bundle: Bundle, plan: BuildPlan, on_progress: Callable[[Progress], None] = lambda _: None
) -> BuildResult:
    """Builds an engine, unless it is already there.

    One build at a time runs in a bundle. The plan appears only when it is complete, and its sidecar
    last.

    Args:
        bundle: The bundle.
        plan: What to build, from `plan_build`.
        on_progress: Called with every step that TensorRT reports.

    Raises:
        BuildError: TensorRT refused or failed, or Ctrl-C stopped it; nothing is left behind.
        BundleError: The graph was changed since export.
        InputError: The bundle can't be written to, is in the hub's cache, or its path isn't UTF-8.
    """
    refuse_hub(bundle.path)
    try:
        return _build(bundle, plan, on_progress)
    except KeyboardInterrupt:
        raise build_error(Failed("building", "interrupted", interrupted=True)) from None


def _build(bundle: Bundle, plan: BuildPlan, on_progress: Callable[[Progress], None]) -> BuildResult:
    folder = plan.plan.parent
    _check_name(bundle.path)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"can't write to {bundle.path}", found=error.strerror) from error
    with folder_lock(folder), naming_full_disks(plan.plan):
        if (found := _existing(plan)) is not None:
            return BuildResult(found, was_there=True)
        onnx = bundle.verified_graph(plan.graph)
        plugins = plugin_library() if plan.graph.operators else None
        with temporary_folder(folder, "build") as staging:
            staged = staging / plan.plan.name
            request = BuildRequest(
                key=plan.key,
                onnx=str(onnx.absolute()),
                plugins=None if plugins is None else str(plugins),
                operators=plan.graph.operators,
                plan=str(staged.resolve()),
                timing_cache=str(plan.timing_cache.resolve()) if plan.timing_cache else None,
                repeatable=plan.repeatable,
            )
            built = run_worker(request, staging, on_progress)
            record = EngineRecord(
                schema_version=ENGINE_SCHEMA_VERSION,
                key=plan.key,
                plan=FileRecord(staged.stat().st_size, file_sha256(staged)),
                layers=built.layers,
                plugin_layers=built.plugin_layers,
                plugin_sha256=_digest(plugins),
                build_seconds=built.seconds,
                machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
                created=timestamp(),
                structure_sha256=structure_sha256(onnx) if plan.key.options["refit"] else None,
                timing_cache_sha256=_digest(plan.timing_cache),
            )
            sidecar = staged.with_suffix(".json")
            sidecar.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
            staged.replace(plan.plan)
            sidecar.replace(plan.sidecar)
    return BuildResult(Engine(plan.plan, record), was_there=False)


def _digest(file: Path | None) -> str | None:
    return None if file is None or not file.is_file() else file_sha256(file)


def _check_name(path: Path) -> None:
    resolved = str(path.resolve())
    try:
        resolved.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "TensorRT takes no path that isn't UTF-8",
            found=resolved,
            mend="rename the folder, or build in a copy and copy its engines back",
        ) from error


def _existing(plan: BuildPlan) -> Engine | None:
    """The engine of this key, if it is there and sound; a damaged one is built again."""
    if not plan.sidecar.is_file():
        return None
    try:
        engine = Engine(plan.plan, read_sidecar(plan.sidecar))
        check_plan(engine)
    except BundleError:
        return None
    return engine if engine.record.key == plan.key else None


def run_worker(
    request: BuildRequest, folder: Path, on_progress: Callable[[Progress], None]
) -> Built:
    """Builds in a separate process; its files go to `folder`.

    Raises:
        BuildError: TensorRT refused, failed or died.
    """
    request_file = folder / "request.json"
    request_file.write_bytes(msgspec.json.encode(request))
    command = [sys.executable, "-m", "magvit_export.engines.worker", str(request_file)]
    last: Event = Failed("starting", "its process ended without a word")
    errors_file = folder / "stderr.txt"
    with (
        errors_file.open("wb") as errors,
        # In its own session, so that the terminal's Ctrl-C reaches only us, and we pass it on.
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_worker_environment(folder, request.key.flavour),
            start_new_session=True,
        ) as worker,
    ):
        assert worker.stdout is not None
        try:
            for line in worker.stdout:
                last = msgspec.json.decode(line, type=Event)
                if isinstance(last, Progress):
                    on_progress(last)
        except KeyboardInterrupt:
            worker.send_signal(signal.SIGINT)
            try:
                worker.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                worker.kill()
            raise
    if isinstance(last, Built):
        return last
    if not isinstance(last, Failed):
        tail = errors_file.read_text(errors="replace").strip().splitlines()[-1:]
        last = Failed("building", f"its process died (exit {worker.returncode}) {' '.join(tail)}")
    raise build_error(last)


def _worker_environment(folder: Path, flavour: Flavour) -> dict[str, str]:
    """The environment of the worker: Polygraphy's flavour, and where TensorRT-RTX's library is.

    TensorRT-RTX's parser opens `libtensorrt_rtx.so`, but its package has only a file with a version
    in its name. Without a link of that name on the library path, the process aborts.
    """
    environment = dict(os.environ)
    environment["POLYGRAPHY_USE_TENSORRT_RTX"] = str(int(flavour == "tensorrt-rtx"))
    spec = find_spec("tensorrt_rtx_libs")
    if spec is not None and spec.submodule_search_locations:
        libraries = Path(next(iter(spec.submodule_search_locations)))
        library = next(iter(sorted(libraries.glob(f"{RTX_LIBRARY}.*"))), None)
        if library is not None:
            (folder / RTX_LIBRARY).symlink_to(library)
            paths = [str(folder.resolve()), environment.get("LD_LIBRARY_PATH", "")]
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
    return environment
