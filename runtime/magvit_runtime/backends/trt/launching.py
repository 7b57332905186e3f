"""Binds an execution context to shapes and addresses, and launches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from magvit_runtime.backends.trt.log import take_error
from magvit_runtime.backends.trt.tensors import EngineTensors
from magvit_runtime.errors import BackendError
from magvit_runtime.types import Shape


def set_profile(context: Any, number: int, stream: Any) -> None:
    """Chooses the profile of a new context; its shapes are set after this."""
    if number and not context.set_optimization_profile_async(number, int(stream)):
        raise BackendError(f"TensorRT can't choose profile {number}", found=take_error())


def set_shapes(
    context: Any, tensors: EngineTensors, shapes: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Sets the input shapes of a context, and returns the output shapes that follow."""
    for name, shape in shapes.items():
        if not context.set_input_shape(name, shape):
            raise BackendError(f"TensorRT refuses shape {shape} for {name!r}", found=take_error())
    found = {name: tuple(context.get_tensor_shape(name)) for name in tensors.outputs}
    for name, shape in found.items():
        if min(shape, default=1) < 0:
            raise BackendError(
                f"the shape of output {name!r} doesn't follow from the inputs'", found=shape
            )
    return found


def set_addresses(context: Any, addresses: Mapping[str, int]) -> None:
    """Tells a context where its tensors lie on the GPU."""
    for name, address in addresses.items():
        if not context.set_tensor_address(name, address):
            raise BackendError(f"TensorRT can't bind tensor {name!r}", found=take_error())


def enqueue(context: Any, stream: Any) -> None:
    """Starts one run of a context on a stream."""
    if not context.execute_async_v3(int(stream)):
        raise BackendError(
            "TensorRT can't run the engine",
            found=take_error(),
            mend="`magvit doctor` says whether engine, plugins and GPU fit",
        )
