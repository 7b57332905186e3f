"""The named inputs and outputs of an engine, and which arrays fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from magvit_runtime.bundle.engine_records import Profile
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.types import Shape


@dataclass(frozen=True)
class InputTensor:
    """An input of an engine.

    Attributes:
        name: Its name in the graph.
        dtype: Element type.
        minimum, maximum: Smallest and largest size of each dimension in the engine's profile.
    """

    name: str
    dtype: np.dtype[Any]
    minimum: Shape
    maximum: Shape


@dataclass(frozen=True)
class EngineTensors:
    """The inputs and outputs of an engine.

    Attributes:
        inputs: Inputs by name, in the engine's order.
        outputs: Element type of each output by name, in the engine's order.
    """

    inputs: dict[str, InputTensor]
    outputs: dict[str, np.dtype[Any]]

    @property
    def maximum_shapes(self) -> dict[str, Shape]:
        """The largest shape of each input."""
        return {name: tensor.maximum for name, tensor in self.inputs.items()}

    def takes(self, profile: Profile) -> bool:
        """Whether the inputs have exactly the shapes of a profile."""
        ours = {name: (tensor.minimum, tensor.maximum) for name, tensor in self.inputs.items()}
        return ours == {name: (shapes.minimum, shapes.maximum) for name, shapes in profile.items()}

    def check(
        self,
        shapes: Mapping[str, Shape],
        dtypes: Mapping[str, np.dtype[Any]],
        outputs: Sequence[str],
    ) -> None:
        """Refuses inputs and outputs that the engine doesn't have, or whose shapes don't fit.

        Args:
            shapes: Shape of each input given.
            dtypes: Element type of each input given.
            outputs: Names of the outputs wanted.

        Raises:
            InputError: A name is missing or not known, or an array doesn't fit the profile.
        """
        if shapes.keys() != self.inputs.keys():
            raise InputError(
                "the inputs aren't those of the engine",
                found=", ".join(shapes) or "none",
                expected=", ".join(self.inputs),
            )
        unknown = [name for name in outputs if name not in self.outputs]
        if unknown:
            raise InputError(
                "the engine has no such output",
                found=", ".join(unknown),
                expected=", ".join(self.outputs),
            )
        for name, tensor in self.inputs.items():
            _check_input(tensor, shapes[name], dtypes[name])


def read_tensors(trt: Any, engine: Any) -> EngineTensors:
    """The tensors of an engine, with the limits of its first profile.

    Args:
        trt: Module of the flavour.
        engine: Its `ICudaEngine`.

    Raises:
        BackendError: The engine has a tensor that these sessions can't bind.
    """
    inputs: dict[str, InputTensor] = {}
    outputs: dict[str, np.dtype[Any]] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = _numpy_dtype(trt, engine, name)
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise BackendError(f"tensor {name!r} of the engine lies in host memory")
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            minimum, _, maximum = engine.get_tensor_profile_shape(name, 0)
            inputs[name] = InputTensor(name, dtype, tuple(minimum), tuple(maximum))
        else:
            outputs[name] = dtype
    return EngineTensors(inputs, outputs)


def _numpy_dtype(trt: Any, engine: Any, name: str) -> np.dtype[Any]:
    kind = engine.get_tensor_dtype(name)
    try:
        dtype: np.dtype[Any] = np.dtype(trt.nptype(kind))
    except TypeError as error:
        raise BackendError(f"tensor {name!r} has no NumPy type", found=kind) from error
    return dtype


def _check_input(tensor: InputTensor, shape: Shape, dtype: np.dtype[Any]) -> None:
    fits = len(shape) == len(tensor.minimum) and all(
        low <= size <= high
        for low, size, high in zip(tensor.minimum, shape, tensor.maximum, strict=True)
    )
    if fits and dtype == tensor.dtype:
        return
    limits = ", ".join(
        str(low) if low == high else f"{low} to {high}"
        for low, high in zip(tensor.minimum, tensor.maximum, strict=True)
    )
    raise InputError(
        f"input {tensor.name!r} doesn't fit the engine's profile",
        found=f"{dtype} {list(shape)}",
        expected=f"{tensor.dtype} [{limits}]",
        mend=f"pass at most {tensor.maximum[0]} at once (`batch_size`), "
        "or build an engine with another --profile",
    )
