"""The steps of decoders on the CPU.

The passes over whole maps are those of libmagvit_operators.so; kernels/include/magvit/operators.h
says what each does.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.cpu.convs import ThreadPool, structure_of
from magvit_runtime.backends.native.cpu.maps import FeatureMap, Floats, Moments
from magvit_runtime.backends.native.decoder_steps import (
    AdaptiveNormalization,
    ChannelStatistic,
    PixelRounding,
    Repetition,
)
from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.convs import AdaptiveNormCall, load_convs


def write_codes(ids: NDArray[np.int32], codes: FeatureMap) -> None:
    """Writes +1 or -1 for each bit of ids [t, h, w] into a map."""
    bits = codes.channels
    codes.values[..., bits:] = 0
    codes.values[..., :bits] = (ids[..., None] >> np.arange(bits, dtype=np.int32) & 1) * 2 - 1


def write_rows(ids: NDArray[np.int32], codebook: NDArray[np.float32], target: FeatureMap) -> None:
    """Writes, at each position, the row of a codebook that the id there [t, h, w] numbers."""
    target.values[..., target.channels :] = 0
    target.values[..., : target.channels] = codebook[ids]


def repeat_positions(step: Repetition, source: FeatureMap, target: FeatureMap) -> None:
    """Writes each position of a map as a block of equal ones."""
    frames, height, width, pitch = source.values.shape
    blocks = (frames, height, step.height, width, step.width, pitch)
    target.values.reshape(blocks)[:] = source.values[:, :, None, :, None]


def adapt(
    pool: ThreadPool, step: AdaptiveNormalization, target: FeatureMap, scale: Floats, shift: Floats
) -> Moments:
    """Normalises a map in place, scales and shifts its channels.

    Args:
        pool: Threads.
        step: The normalisation.
        target: The map, without a background.
        scale: float32 [C], as is `shift`.
        shift: Added to each channel.

    Returns:
        The moments of what it leaves.

    Raises:
        BackendError: Memory is short.
    """
    library = load_convs()
    moments = np.empty((step.groups, 2))
    structure = structure_of(target)
    call = AdaptiveNormCall(
        map=ctypes.addressof(structure),
        groups=step.groups,
        epsilon=step.epsilon,
        scale=scale.ctypes.data,
        shift=shift.ctypes.data,
        moments=moments.ctypes.data,
    )
    _check(library.magvit_adaptive_norm_run(ctypes.byref(call), pool.handle), step.output)
    return Moments(moments)


def statistic_of(statistic: ChannelStatistic, codes: FeatureMap) -> Floats:
    """A vector of a clip: float32 [C]."""
    flat = codes.values[..., : codes.channels].reshape(-1, codes.channels).astype(np.float64)
    if statistic.epsilon is None:
        values = flat.mean(axis=0)
    else:
        variance = flat.var(axis=0, ddof=min(1, len(flat) - 1))
        values = np.sqrt(variance + statistic.epsilon)
    result = statistic.weight.astype(np.float64) @ values + statistic.bias
    return np.ascontiguousarray(result, np.float32)


def move_depth_to_space(
    pool: ThreadPool, source: FeatureMap, block: tuple[int, int, int], target: FeatureMap
) -> None:
    """Writes blocks of positions that are channels of the source; neither has a background.

    Raises:
        BackendError: The maps don't fit.
    """
    maps = [structure_of(one) for one in (source, target)]
    sizes = (ctypes.c_int64 * 3)(*block)
    status = load_convs().magvit_depth_to_space_run(
        ctypes.addressof(maps[0]), sizes, ctypes.addressof(maps[1]), pool.handle
    )
    _check(status, "depth to space")


def round_to_bytes(step: PixelRounding, source: FeatureMap) -> NDArray[np.uint8]:
    """Bytes of a map: uint8 [T, H, W, C]."""
    values = np.clip(source.values[..., : source.channels], step.low, step.high)
    values += np.float32(step.offset)
    values *= np.float32(step.scale)
    values += np.float32(step.rounding)
    return np.floor(values, out=values).astype(np.uint8)


def _check(status: int, what: str) -> None:
    if status != 0:
        message = load_convs().magvit_status_message(status).decode()
        raise BackendError(f"the native backend can't run {what}", found=message)
