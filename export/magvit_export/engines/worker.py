"""The process that runs TensorRT: reads a `BuildRequest`, prints one event per line.

Polygraphy parses, configures and builds. This module does the rest: it registers our plugins,
checks that they were used, keeps TensorRT's own messages for errors, and stops on Ctrl-C.

It runs as a separate process for four reasons. TensorRT may abort. TensorRT-RTX's parser opens a
library that must be on the search path when the process starts. Polygraphy chooses one flavour when
it is imported. And only then can we handle Ctrl-C ourselves.

    POLYGRAPHY_USE_TENSORRT_RTX=1 python -m magvit_export.engines.worker REQUEST.json
"""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
from polygraphy.backend.trt import (
    CreateConfig,
    PostprocessConfig,
    Profile,
    engine_bytes_from_network,
    network_from_onnx_path,
)
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER

from magvit_export.engines.protocol import BuildRequest, Built, Event, Failed, Progress
from magvit_runtime.bundle.engine_records import LayerRecord
from magvit_runtime.hardware.flavours import import_flavour
from magvit_runtime.native_libraries.lookup import PLUGIN_OPERATORS

PLUGIN_LAYER = "PLUGIN_V3"
FUNCTION_BODY_PREFIX = "node_of_"


class BuildFailedError(Exception):
    """TensorRT refused or failed."""

    def __init__(self, during: str, message: str) -> None:
        super().__init__(message)
        self.during = during


class Interruption:
    """Whether somebody pressed Ctrl-C."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGINT, self._request)

    def _request(self, *_: object) -> None:
        self.requested = True


def main() -> None:
    """Builds what the request file says."""
    request = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=BuildRequest)
    interruption = Interruption()
    try:
        emit(build(request, interruption))
    except BuildFailedError as error:
        emit(Failed(error.during, str(error), interruption.requested))
        sys.exit(1)


def emit(event: Event) -> None:
    """Prints an event for the parent."""
    print(msgspec.json.encode(event).decode(), flush=True)


def build(request: BuildRequest, interruption: Interruption) -> Built:
    """Parses, checks, builds and writes.

    Raises:
        BuildFailedError: A step failed, or an operator of ours did not become a plugin layer.
    """
    start = time.perf_counter()
    trt = import_flavour(request.key.flavour)
    last_error = listen_to_polygraphy()
    if request.plugins is not None:
        with step("loading the plugin library", last_error):
            # Polygraphy's `LoadPlugins` only opens a library, which doesn't register our plugins.
            # We open it first, because then a failure has a reason; the registry gives none.
            ctypes.CDLL(request.plugins)
            trt.get_plugin_registry().load_library(request.plugins)
    with step("parsing", last_error):
        parsed = network_from_onnx_path(request.onnx, strongly_typed=strongly_typed(trt))
    _, network, _ = parsed
    plugin_layers = check_plugin_layers(network, request.operators)
    with step("building", last_error):
        config = make_config(trt, request, make_monitor(trt, interruption))
        kept = None if request.repeatable else request.timing_cache
        plan = engine_bytes_from_network(parsed, config, save_timing_cache=kept)
    Path(request.plan).write_bytes(plan)
    return Built(
        layers=tuple(describe(layer) for layer in network),
        plugin_layers=plugin_layers,
        seconds=round(time.perf_counter() - start, 2),
    )


class LastError(logging.Handler):
    """Remembers the last error in Polygraphy's log, and prints nothing."""

    message = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a message; levels above ERROR only repeat Polygraphy's own exception."""
        if record.levelno == logging.ERROR:
            self.message = record.getMessage()


def listen_to_polygraphy() -> LastError:
    """Removes Polygraphy's log from stdout, because our events go there."""
    last_error = LastError()
    G_LOGGER.use_python_logging_system = True
    G_LOGGER.python_logger.addHandler(last_error)
    G_LOGGER.module_severity = G_LOGGER.ERROR
    G_LOGGER.letter = G_LOGGER.colors = False
    return last_error


@contextmanager
def step(during: str, last_error: LastError) -> Iterator[None]:
    """Names the step that fails, with TensorRT's message; Polygraphy's exception has no cause."""
    try:
        yield
    except (OSError, PolygraphyException) as error:
        raise BuildFailedError(during, last_error.message or str(error)) from error


def strongly_typed(trt: Any) -> bool:
    """Whether to ask for a strongly typed network: RTX and TensorRT 11 have no other kind."""
    return bool(trt.__name__ == "tensorrt" and trt.__version__.startswith("10."))


def check_plugin_layers(network: Any, operators: dict[str, int]) -> dict[str, int]:
    """Counts our plugins' layers, and refuses a network in which a node that has one is none.

    Such nodes are named after their operator: `…/GroupNormSiLU`, `LFQ`. Where the parser doesn't
    find the plugin it takes the node's function body, whose layers it calls `node_of_…`.

    Args:
        network: The parsed network.
        operators: How many nodes the graph has of each operator; those that have no plugin are
            taken by their definitions.
    """
    expected = {name: count for name, count in operators.items() if name in PLUGIN_OPERATORS}
    counts: Counter[str] = Counter()
    for layer in network:
        if layer.type.name == PLUGIN_LAYER:
            counts[layer.name.rpartition("/")[2].partition("_")[0]] += 1
        elif layer.name.startswith(FUNCTION_BODY_PREFIX):
            raise BuildFailedError(
                "parsing", f"a node of ours became {layer.type.name} layers, not {PLUGIN_LAYER}"
            )
    if counts != expected:
        raise BuildFailedError(
            "parsing", f"{dict(counts)} {PLUGIN_LAYER} layers, where the graph has {expected}"
        )
    return dict(counts)


def make_config(trt: Any, request: BuildRequest, monitor: Any) -> Any:
    """Creates the builder's configuration: profiles, targets and options of the request's key."""
    key, options, levels = request.key, request.key.options, trt.HardwareCompatibilityLevel
    profiles = []
    for shapes_by_name in key.profiles:
        profile = Profile()
        for name, shapes in shapes_by_name.items():
            profile.add(name, shapes.minimum, shapes.optimum, shapes.maximum)
        profiles.append(profile)
    compatibility = {
        "none": None,
        "same-sm": levels.SAME_COMPUTE_CAPABILITY,
        "ampere-plus": levels.AMPERE_PLUS,
    }
    workspace = options["workspace"]
    common = {
        "profiles": profiles,
        "profiling_verbosity": trt.ProfilingVerbosity.DETAILED,
        "strip_plan": options["strip_weights"],
        "refittable": options["refit"],
        "version_compatible": options["version_compatible"],
        "memory_pool_limits": workspace and {trt.MemoryPoolType.WORKSPACE: int(workspace) * 2**20},
        "builder_optimization_level": options["opt_level"],
        "hardware_compatibility_level": compatibility[str(options["hardware_compat"])],
        "load_timing_cache": request.timing_cache,
        "error_on_timing_cache_miss": request.repeatable,
        "progress_monitor": monitor,
    }
    if key.flavour == "tensorrt":
        config = CreateConfig(tf32=options["tf32"], **common)
        if request.timing_cache is None:
            return config
        # The cache then holds the kernels chosen, not times alone, and a later build takes them:
        # NVIDIA's sampleEditableTimingCache. `CreateConfig` has no argument for it.
        editable = trt.BuilderFlag.EDITABLE_TIMING_CACHE
        return PostprocessConfig(config, lambda _builder, _network, made: made.set_flag(editable))
    only = [tuple(map(int, key.sms[0].split(".")))] if len(key.sms) == 1 else None
    config = CreateConfigRTX(compute_capabilities=only, **common)
    if options["tf32"]:
        return config
    # TF32 is on, and `CreateConfigRTX` has no argument for it.
    tf32 = trt.BuilderFlag.TF32
    return PostprocessConfig(config, lambda _builder, _network, made: made.clear_flag(tf32))


def make_monitor(trt: Any, interruption: Interruption) -> Any:
    """Reports every step, and stops the build at the next one after Ctrl-C."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, _parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            emit(Progress(phase, 0, steps))

        def step_complete(self, phase: str, step: int) -> bool:
            emit(Progress(phase, step + 1, self._steps[phase]))
            return not interruption.requested

        def phase_finish(self, phase: str) -> None:
            emit(Progress(phase, self._steps[phase], self._steps[phase]))

    return Monitor()


def describe(layer: Any) -> LayerRecord:
    """One row of the layer table."""
    precision = layer.get_output(0).dtype.name if layer.num_outputs else ""
    return LayerRecord(layer.name, layer.type.name, precision)


if __name__ == "__main__":
    main()
