"""The process that holds TensorRT: reads a `BuildRequest`, prints one event a line.

It is a process of its own because TensorRT may abort, because TensorRT-RTX's parser opens a library
by a name that must be on the search path when the process starts, and so that Ctrl-C is ours.

    python -m magvit_export.engines.worker REQUEST.json
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from magvit_export.engines.protocol import BuildRequest, Built, Event, Failed, Progress
from magvit_runtime.engines import import_flavour
from magvit_runtime.engines.records import LayerRecord

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
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    registry = builder.get_plugin_registry()
    if request.plugins is not None and registry.load_library(request.plugins) is None:
        raise BuildFailedError("loading the plugin library", logger.last_error)
    network = builder.create_network(strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(request.onnx):
        raise BuildFailedError("parsing", parser.get_error(0).desc())
    plugin_layers = check_plugin_layers(network, request.operators)
    config = make_config(trt, builder, request)
    monitor = make_monitor(trt, interruption)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildFailedError("building", logger.last_error)
    Path(request.plan).write_bytes(plan)
    if request.timing_cache is not None:
        write_timing_cache(config, Path(request.timing_cache))
    return Built(
        layers=tuple(describe(network.get_layer(i)) for i in range(network.num_layers)),
        plugin_layers=plugin_layers,
        seconds=round(time.perf_counter() - start, 2),
    )


def make_logger(trt: Any) -> Any:
    """A logger that remembers the last error and prints nothing."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last_error = message

    return Logger()


def strongly_typed(trt: Any) -> int:
    """Flags of a strongly typed network: the only kind from TensorRT 11 on, asked for before."""
    if int(trt.__version__.split(".")[0]) == 10 and trt.__name__ == "tensorrt":
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 0


def check_plugin_layers(network: Any, operators: dict[str, int]) -> dict[str, int]:
    """Counts our plugins' layers, and refuses a network in which a node of ours is none.

    Nodes of ours are named after their operator: `…/GroupNormSiLU`, `LFQ`. Where the parser doesn't
    find the plugin it takes the node's function body, whose layers it calls `node_of_…`.

    Args:
        network: The parsed network.
        operators: How many nodes the graph has of each operator.
    """
    counts: Counter[str] = Counter()
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if layer.type.name == PLUGIN_LAYER:
            counts[layer.name.rpartition("/")[2].partition("_")[0]] += 1
        elif layer.name.startswith(FUNCTION_BODY_PREFIX):
            raise BuildFailedError(
                "parsing", f"a node of ours became {layer.type.name} layers, not {PLUGIN_LAYER}"
            )
    if counts != operators:
        raise BuildFailedError(
            "parsing", f"{dict(counts)} {PLUGIN_LAYER} layers, where the graph has {operators}"
        )
    return dict(counts)


def make_config(trt: Any, builder: Any, request: BuildRequest) -> Any:
    """The builder's configuration: profile, targets and options of the request's key."""
    key = request.key
    config = builder.create_builder_config()
    for shapes_by_name in key.profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in shapes_by_name.items():
            profile.set_shape(name, shapes.minimum, shapes.optimum, shapes.maximum)
        config.add_optimization_profile(profile)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    options = key.options
    flags = {
        trt.BuilderFlag.TF32: options["tf32"],
        trt.BuilderFlag.STRIP_PLAN: options["strip_weights"],
        trt.BuilderFlag.REFIT: options["refit"],
        trt.BuilderFlag.VERSION_COMPATIBLE: options["version_compatible"],
    }
    for flag, wanted in flags.items():
        (config.set_flag if wanted else config.clear_flag)(flag)
    if options["workspace"] is not None:
        size = int(options["workspace"]) * 2**20
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    if options["opt_level"] is not None:
        config.builder_optimization_level = int(options["opt_level"])
    if options["hardware_compat"] != "none":
        levels = trt.HardwareCompatibilityLevel
        config.hardware_compatibility_level = {
            "same-sm": levels.SAME_COMPUTE_CAPABILITY,
            "ampere-plus": levels.AMPERE_PLUS,
        }[str(options["hardware_compat"])]
    if key.flavour == "tensorrt-rtx" and len(key.sms) == 1:
        config.num_compute_capabilities = 1
        capability = getattr(trt.ComputeCapability, "SM" + key.sms[0].replace(".", ""))
        config.set_compute_capability(capability, 0)
    if request.timing_cache is not None:
        path = Path(request.timing_cache)
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return config


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


def write_timing_cache(config: Any, path: Path) -> None:
    """Keeps the timings of this build for the next one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(config.get_timing_cache().serialize())
    partial.replace(path)


def describe(layer: Any) -> LayerRecord:
    """One row of the layer table."""
    precision = layer.get_output(0).dtype.name if layer.num_outputs else ""
    return LayerRecord(layer.name, layer.type.name, precision)


if __name__ == "__main__":
    main()
