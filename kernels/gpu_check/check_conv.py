"""Compares the conv of the CUDA operators with NumPy's results, and times it.

    python kernels/gpu_check/check_conv.py

On fresh random inputs of the released encoders' sizes, alone and with bias, residual and moments.
Sums are compared at random positions and at all of the clip's first and last; moments by what the
next pass makes of them. Prints one line of JSON per case, as check_operators.py does, and none on a
GPU that doesn't have this conv.
"""

from __future__ import annotations

import math
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from check_operators import (
    GROUPS,
    Gpu,
    Row,
    largest_error,
    new_map,
    normal,
    print_rows,
    report_row,
)
from numpy.typing import NDArray

from magvit_runtime.native_libraries.cuda_operators import Addends
from magvit_runtime.native_libraries.operators import GroupNormOptions, group_norm_silu

WINDOW = 3
SAMPLES = 512


@dataclass(frozen=True)
class Case:
    """A conv.

    Attributes:
        channels, outputs: Of the input and the output.
        sizes: Frames, height and width.
        kernel_frames: Frames of the kernel.
    """

    channels: int
    outputs: int
    sizes: tuple[int, int, int]
    kernel_frames: int


CASES = (
    Case(128, 128, (17, 128, 128), 3),
    Case(128, 256, (17, 64, 64), 3),
    Case(256, 256, (9, 32, 32), 3),
    Case(128, 128, (1, 256, 256), 1),
    Case(64, 128, (1, 32, 8), 3),
    Case(64, 256, (2, 64, 24), 2),
)


def main() -> None:
    """Checks all cases at batches of 1 and 8."""
    seed = secrets.randbits(32)
    print_rows(
        [partial(check_conv, case=case, batch=n, seed=seed) for case in CASES for n in (1, 8)],
        seed,
    )


def check_conv(gpu: Gpu, case: Case, batch: int, seed: int) -> list[Row]:
    """One conv: rows of a report, `bytes` being what a launch has to move."""
    random = np.random.default_rng(seed)
    source = new_map(batch, (case.channels, *case.sizes), "float16")
    output = new_map(batch, (case.outputs, *case.sizes), "float16")
    if not gpu.operators.conv_fits(source.at(256), output.at(256), case.kernel_frames):
        return []
    image = normal(random, (batch, *case.sizes, case.channels), "float16")
    residual = normal(random, (batch, *case.sizes, case.outputs), "float16")
    taps = (case.kernel_frames, WINDOW, WINDOW)
    spread = 1 / math.sqrt(math.prod(taps) * case.channels)
    shape = (case.outputs, *taps, case.channels)
    weight = (random.standard_normal(shape, np.float32) * spread).astype(np.float16)
    bias, scale, shift = random.standard_normal((3, case.outputs), np.float32)
    image_at, residual_at, weight_at = (gpu.upload(array) for array in (image, residual, weight))
    output_at, normalized_at = gpu.allocate(output.size), gpu.allocate(output.size)
    moments = gpu.allocate(gpu.operators.workspace_bytes(output.at(output_at), GROUPS))
    options = GroupNormOptions(
        num_groups=GROUPS,
        epsilon=1e-6,
        weight=gpu.upload(scale),
        bias=gpu.upload(shift),
        activation=1,
    )
    stream = int(gpu.stream)

    def conv(addends: Addends, norm: GroupNormOptions | None) -> None:
        gpu.operators.conv(
            source.at(image_at),
            weight_at,
            case.kernel_frames,
            addends,
            output.at(output_at),
            norm,
            None if norm is None else moments,
            stream,
        )

    facts = {"shape": [batch, case.channels, case.outputs, *case.sizes], "dtype": "float16"}
    places = sample_places(random, batch, case.sizes)
    sums = conv_at(image, weight, places)
    moved = source.size + weight.nbytes + output.size
    result_shape = (batch, *case.sizes, case.outputs)

    time = gpu.microseconds(lambda: conv(Addends(), None))
    found = gpu.download(output_at, result_shape, "float16")
    rows = [report_row("conv", facts, largest_error(found[tuple(places.T)], sums), time, moved)]

    addends = Addends(gpu.upload(bias), residual_at)
    time = gpu.microseconds(lambda: conv(addends, options))
    gpu.operators.apply(
        output.at(output_at),
        Addends(),
        "float16",
        options,
        moments,
        output.at(normalized_at),
        stream,
    )
    found = gpu.download(output_at, result_shape, "float16")
    total = sums + bias + residual[tuple(places.T)]
    sum_error = largest_error(found[tuple(places.T)], total)
    normalized = gpu.download(normalized_at, result_shape, "float16")

    def norm_error(clip: int) -> float:
        expected = group_norm_silu(np.moveaxis(found[clip][None], -1, 1), scale, shift, GROUPS)
        return largest_error(normalized[clip], np.moveaxis(expected[0], 0, -1))

    with ThreadPoolExecutor() as pool:
        norm_errors = list(pool.map(norm_error, range(batch)))
    moved += output.size
    rows.append(report_row("conv with residual", facts, sum_error, time, moved))
    rows.append(report_row("conv's moments", facts, max(norm_errors), time, moved))
    return rows


def sample_places(
    random: np.random.Generator, batch: int, sizes: tuple[int, int, int]
) -> NDArray[np.int64]:
    """[K, 4]: clip, frame, row, column of random positions, and of the first and the last ones."""
    count = batch * math.prod(sizes)
    ends = min(SAMPLES, count)
    drawn = random.integers(0, count, SAMPLES)
    indices = np.unique(np.concatenate([np.arange(ends), count - 1 - np.arange(ends), drawn]))
    return np.stack(np.unravel_index(indices, (batch, *sizes)), axis=1)


def conv_at(
    image: NDArray[np.floating], weight: NDArray[np.floating], places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """A causal conv with zeros around each frame, at some positions: [K, C_out], in float32."""
    sizes = np.array(image.shape[1:4])
    kernel = np.array(weight.shape[1:4])
    before = np.array([kernel[0] - 1, kernel[1] // 2, kernel[2] // 2])
    total = np.zeros((len(places), len(weight)), np.float32)
    for tap in np.ndindex(*kernel):
        read = places[:, 1:] + tap - before
        inside = np.all((read >= 0) & (read < sizes), axis=1)
        clip, (frame, row, column) = places[inside, 0], read[inside].T
        values = image[clip, frame, row, column].astype(np.float32)
        total[inside] += values @ weight[:, *tap].astype(np.float32).T
    return total


if __name__ == "__main__":
    main()
