"""The named inputs and outputs of an engine, and which arrays fit them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from magvit_runtime.bundle.engine_records import Profile, ShapeRange
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.types import Shape


@dataclass(frozen=True)
class EngineTensors:
    """The inputs and outputs of an engine.

    Attributes:
        inputs: Element type of each input by name, in the engine's order.
        outputs: Element type of each output by name, in the engine's order.
        profiles: Shapes that the engine was built for, by input; in TensorRT's order.
    """

    inputs: dict[str, np.dtype[Any]]
    outputs: dict[str, np.dtype[Any]]
    profiles: tuple[Profile, ...]

    def choose(self, shapes: Mapping[str, Shape]) -> int:
        """The number of the tightest profile that holds some shapes.

        It is the one whose largest inputs have the fewest elements; of equals, the one whose
        kernels were chosen for shapes nearest to these.

        Raises:
            InputError: None holds them.
        """
        fitting = [i for i, profile in enumerate(self.profiles) if _holds(profile, shapes)]
        if not fitting:
            raise self._outside(shapes)
        return min(fitting, key=lambda i: _looseness(self.profiles[i], shapes))

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
            InputError: A name is missing or not known, or an array doesn't fit any profile.
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
        for name, dtype in self.inputs.items():
            if dtypes[name] != dtype:
                raise InputError(
                    f"input {name!r} isn't what the engine takes",
                    found=f"{dtypes[name]} {list(shapes[name])}",
                    expected=f"{dtype} {self._limits(name)}",
                )
        self.choose(shapes)

    def _outside(self, shapes: Mapping[str, Shape]) -> InputError:
        most = max(shape[0] for shape in (_first(profile).maximum for profile in self.profiles))
        return InputError(
            "the inputs fit no profile of the engine",
            found=", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()),
            expected=", ".join(
                f"{n} {dtype} {self._limits(n)}" for n, dtype in self.inputs.items()
            ),
            mend=f"pass at most {most} at once (`batch_size`), "
            "or build an engine with other --profiles",
        )

    def _limits(self, name: str) -> str:
        """The sizes of an input that the profiles hold."""
        return " or ".join(dict.fromkeys(_text(profile[name]) for profile in self.profiles))


def read_tensors(trt: Any, engine: Any) -> EngineTensors:
    """The tensors of an engine, with the limits of its profiles.

    Args:
        trt: Module of the flavour.
        engine: Its `ICudaEngine`.

    Raises:
        BackendError: The engine has a tensor that these sessions can't bind.
    """
    inputs: dict[str, np.dtype[Any]] = {}
    outputs: dict[str, np.dtype[Any]] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = _numpy_dtype(trt, engine, name)
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise BackendError(f"tensor {name!r} of the engine lies in host memory")
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs)[name] = dtype
    profiles = tuple(
        {
            name: ShapeRange(*map(tuple, engine.get_tensor_profile_shape(name, number)))
            for name in inputs
        }
        for number in range(engine.num_optimization_profiles)
    )
    return EngineTensors(inputs, outputs, profiles)


def profile_text(profile: Profile) -> str:
    """A profile for people: each input with the sizes of its dimensions."""
    return ", ".join(f"{name} {_text(shapes)}" for name, shapes in profile.items())


def _numpy_dtype(trt: Any, engine: Any, name: str) -> np.dtype[Any]:
    kind = engine.get_tensor_dtype(name)
    try:
        dtype: np.dtype[Any] = np.dtype(trt.nptype(kind))
    except TypeError as error:
        raise BackendError(f"tensor {name!r} has no NumPy type", found=kind) from error
    return dtype


def _holds(profile: Profile, shapes: Mapping[str, Shape]) -> bool:
    return all(
        len(shape) == len(profile[name].minimum)
        and all(
            low <= size <= high
            for low, size, high in zip(
                profile[name].minimum, shape, profile[name].maximum, strict=True
            )
        )
        for name, shape in shapes.items()
    )


def _looseness(profile: Profile, shapes: Mapping[str, Shape]) -> tuple[int, int]:
    """Elements of a profile's largest inputs, and how many more or fewer its optimum has."""
    elements = sum(math.prod(shape) for shape in shapes.values())
    best = sum(math.prod(limits.optimum) for limits in profile.values())
    return sum(math.prod(limits.maximum) for limits in profile.values()), abs(best - elements)


def _first(profile: Profile) -> ShapeRange:
    return next(iter(profile.values()))


def _text(shapes: ShapeRange) -> str:
    limits = zip(shapes.minimum, shapes.maximum, strict=True)
    return f"[{', '.join(str(low) if low == high else f'{low} to {high}' for low, high in limits)}]"
