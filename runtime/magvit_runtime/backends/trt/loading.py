"""Loads a plan into TensorRT: plugins, runtime, engine, and what the sidecar says of it.

Not run on a GPU yet.
"""

from __future__ import annotations

from typing import Any

from magvit_runtime.backends.trt.engines import Engine, rebuild_command
from magvit_runtime.backends.trt.log import process_logger, take_error
from magvit_runtime.backends.trt.tensors import EngineTensors, profile_text, read_tensors
from magvit_runtime.errors import BackendError, BundleError
from magvit_runtime.native_libraries.lookup import plugin_library


def load_plugins(trt: Any, engine: Engine) -> None:
    """Registers our plugins with a flavour, unless this process did so before.

    Raises:
        BackendError: The engine needs them and they aren't here, or TensorRT can't load them.
    """
    registry = trt.get_plugin_registry()
    if any(getattr(c, "plugin_namespace", "") == "magvit" for c in registry.all_creators):
        return
    library = plugin_library()
    if library is None:
        if not engine.record.plugin_layers:
            return
        raise BackendError(
            f"{engine.plan} needs the plugin library (libmagvit_plugins.so), which isn't here",
            mend="build it by `cmake -B build && cmake --build build`, or build the engine again",
        )
    if registry.load_library(str(library)) is None:
        raise BackendError(f"TensorRT can't load {library}", found=take_error())


def deserialize(trt: Any, engine: Engine) -> tuple[Any, Any]:
    """The runtime and the `ICudaEngine` of a plan whose digest was checked.

    Raises:
        BackendError: TensorRT can't load it.
    """
    take_error()
    runtime = trt.Runtime(process_logger(trt))
    # A version-compatible plan contains its own small runtime, as code.
    if engine.record.key.options.get("version_compatible"):
        runtime.engine_host_code_allowed = True
    plan = runtime.deserialize_cuda_engine(engine.plan.read_bytes())
    if plan is None:
        raise BackendError(
            f"TensorRT can't load {engine.plan}", found=take_error(), mend=rebuild_command(engine)
        )
    return runtime, plan


def checked_tensors(trt: Any, plan: Any, engine: Engine) -> EngineTensors:
    """The tensors of a loaded plan.

    Raises:
        BundleError: Its profiles aren't those of its sidecar.
        BackendError: It has a tensor that sessions can't bind.
    """
    tensors = read_tensors(trt, plan)
    if tensors.profiles != engine.record.key.profiles:
        raise BundleError(
            f"{engine.plan} isn't what its sidecar says",
            found="; ".join(map(profile_text, tensors.profiles)),
            expected="; ".join(map(profile_text, engine.record.key.profiles)),
            mend=rebuild_command(engine),
        )
    return tensors
