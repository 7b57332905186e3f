"""Puts the weights of an ONNX file into an engine that takes weights: TensorRT's IRefitter.

The parser named them by the ONNX file's own names (`bundle.onnx_weights`). Not run on a GPU yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from magvit_runtime.backends.trt.engines import Engine, is_stripped
from magvit_runtime.backends.trt.loading import deserialize, load_plugins
from magvit_runtime.backends.trt.log import process_logger, take_error
from magvit_runtime.bundle.onnx_weights import read_weights
from magvit_runtime.cuda.device import open_device
from magvit_runtime.errors import BackendError
from magvit_runtime.hardware.flavours import import_flavour
from magvit_runtime.types import Array

_SHOWN = 5


def put_weights(trt: Any, plan: Any, subject: Path, graph: Path | None) -> None:
    """Gives an engine the weights of an ONNX file, by their names.

    Args:
        trt: Module of the flavour.
        plan: The `ICudaEngine`; nothing may run on it.
        subject: Its file, for messages.
        graph: The ONNX file; None if there is none.

    Raises:
        BackendError: It takes no weights, a weight it needs isn't in the file or is of another type
            or size, or TensorRT refuses them.
    """
    if graph is None:
        raise BackendError(
            f"{subject} has no weights in it",
            mend="open it with its bundle, whose graph has them",
        )
    if not plan.refittable:
        raise BackendError(
            f"{subject} takes no weights", mend="build it again with --refit or --strip-weights"
        )
    take_error()
    refitter = trt.Refitter(plan, process_logger(trt))
    weights = read_weights(graph)
    held: list[Array] = []  # TensorRT reads them when it refits, and keeps no reference.
    wrong: list[str] = []
    for name in refitter.get_all_weights():
        if name not in weights:
            continue
        array = np.ascontiguousarray(weights[name])
        given, wanted = trt.Weights(array), refitter.get_weights_prototype(name)
        if (given.dtype, given.size) != (wanted.dtype, wanted.size):
            wrong.append(f"{name} {given.dtype} [{given.size}], not {wanted.dtype} [{wanted.size}]")
        elif not refitter.set_named_weights(name, given):
            wrong.append(f"{name} ({take_error()})")
        held.append(array)
    missing = refitter.get_missing_weights()
    if wrong or missing:
        raise BackendError(
            f"{graph} doesn't have the weights of {subject}",
            found=_some(wrong) or None,
            expected=f"also {_some(missing)}" if missing else None,
            mend="build the engine again",
        )
    if not refitter.refit_cuda_engine():
        raise BackendError(f"TensorRT can't refit {subject}", found=take_error())


def refitted_plan(engine: Engine, graph: Path, gpu: int = 0) -> bytes:
    """The plan of an engine with the weights of another ONNX file of the same structure.

    A plan without weights stays as it is: it takes them whenever it is loaded.

    Args:
        engine: An engine that fits this machine, but for the graph's digest.
        graph: The ONNX file, whose digest, and whose weights' digest, were checked.
        gpu: Which GPU, among those that CUDA shows.

    Raises:
        BackendError: As `put_weights`, or the engine can't be loaded.
    """
    if is_stripped(engine):
        return engine.plan.read_bytes()
    trt = import_flavour(engine.record.key.flavour)
    with open_device(gpu).current():
        load_plugins(trt, engine)
        runtime, plan = deserialize(trt, engine)
        put_weights(trt, plan, engine.plan, graph)
        config = plan.create_serialization_config()
        config.set_flag(trt.SerializationFlag.INCLUDE_REFIT)  # For the checkpoint after this one.
        serialized = plan.serialize_with_config(config)
        if serialized is None:
            raise BackendError(f"TensorRT can't write {engine.plan}", found=take_error())
        content = bytes(memoryview(serialized))
        del serialized, config, plan, runtime  # In this order: TensorRT's owners go last.
    return content


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
