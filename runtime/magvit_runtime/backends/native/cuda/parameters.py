"""A program's weights on the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.arena import ALIGNMENT
from magvit_runtime.backends.native.cuda.maps import CHANNEL_MULTIPLE
from magvit_runtime.backends.native.cuda.unfolding import unfolded_pixels, unfolded_weight
from magvit_runtime.backends.native.decoder_steps import AdaptiveNormalization, CodebookRows
from magvit_runtime.backends.native.program import (
    CodebookSearch,
    Conv,
    Program,
    Step,
    channel_pitch,
)
from magvit_runtime.cuda.device import CudaDevice
from magvit_runtime.cuda.memory import LEGACY_STREAM, DeviceBuffer
from magvit_runtime.native_libraries.operators import ACTIVATIONS, GroupNormOptions

Kind = Literal[
    "weight",
    "bias",
    "norm weight",
    "norm bias",
    "scale weight",
    "scale bias",
    "shift weight",
    "shift bias",
    "codebook",
]


class CudaParameters:
    """All parameters of a program, uploaded once into one block.

    Args:
        device: The GPU, which must be current in the calling thread.
        program: The program.

    Raises:
        BackendError: The GPU's memory is short.
    """

    def __init__(self, device: CudaDevice, program: Program) -> None:
        self._program = program
        arrays = {
            (kind, index): array
            for index, step in enumerate(program.steps)
            for kind, array in _arrays(step, unfolded_pixels(program, index) is not None)
        }
        self._offsets: dict[tuple[Kind, int], int] = {}
        size = 0
        for key, array in arrays.items():
            self._offsets[key] = size
            size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        self._block = DeviceBuffer(device, size)
        kind = device.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        for key, array in arrays.items():
            target = self._block.pointer + self._offsets[key]
            device.call("cudaMemcpy", target, array.ctypes.data, array.nbytes, kind)
        # The call may return before the last bytes arrive, and workers' streams don't wait for it.
        device.synchronize(LEGACY_STREAM)

    def address(self, kind: Kind, step: int) -> int:
        """Where a parameter of a step lies."""
        return self._block.pointer + self._offsets[kind, step]

    def normalization(self, step: int) -> GroupNormOptions:
        """The normalisation that a step, which is a conv, reads through."""
        conv = self._program.steps[step]
        normalization = conv.normalization if isinstance(conv, Conv) else None
        if normalization is None:
            raise KeyError(step)
        return GroupNormOptions(
            num_groups=normalization.groups,
            epsilon=normalization.epsilon,
            weight=self.address("norm weight", step),
            bias=self.address("norm bias", step),
            activation=ACTIVATIONS[normalization.activation],
        )

    def close(self) -> None:
        """Frees the block. No run may be under way."""
        self._block.close()


def _arrays(step: Step, is_unfolded: bool) -> Iterator[tuple[Kind, NDArray[Any]]]:
    """The parameters of a step, which may be a conv that reads unfolded pixels."""
    match step:
        case Conv():
            weight = unfolded_weight(step.weight) if is_unfolded else step.weight
            yield "weight", _channels_last(weight)
            if step.bias is not None:
                yield "bias", np.ascontiguousarray(step.bias, np.float32)
            if step.normalization is not None:
                yield "norm weight", np.ascontiguousarray(step.normalization.weight)
                yield "norm bias", np.ascontiguousarray(step.normalization.bias)
        case AdaptiveNormalization():
            yield "scale weight", np.ascontiguousarray(step.scale.weight)
            yield "scale bias", np.ascontiguousarray(step.scale.bias)
            yield "shift weight", np.ascontiguousarray(step.shift.weight)
            yield "shift bias", np.ascontiguousarray(step.shift.bias)
        case CodebookSearch():
            yield "codebook", np.ascontiguousarray(step.codebook)
        case CodebookRows():
            channels = step.codebook.shape[1]
            padding = channel_pitch(channels, CHANNEL_MULTIPLE) - channels
            yield "codebook", np.pad(step.codebook, [(0, 0), (0, padding)])


def _channels_last(weight: NDArray[Any]) -> NDArray[Any]:
    """[C_out, C_in, kt, kh, kw] to [C_out, kt, kh, kw, C_in], with zeros for padding channels."""
    outputs, inputs, *kernel = weight.shape
    first, last = (channel_pitch(channels, CHANNEL_MULTIPLE) for channels in (outputs, inputs))
    padded = np.zeros((first, *kernel, last), weight.dtype)
    padded[:outputs, ..., :inputs] = np.moveaxis(weight, 1, -1)
    return padded
