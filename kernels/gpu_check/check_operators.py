"""Compares the CUDA operators of the native backend with the CPU's, and times them.

    python kernels/gpu_check/check_operators.py

On fresh random inputs of the encoder's sizes: the statistics pass with bias and residual, the pass
that normalises into a border, pixels, unfolded pixels, and LFQ. Prints one line of JSON per case.
The CPU's results are computed clip by clip, on all of its threads at once: the largest map has 285
million elements.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.cuda.maps import CudaMap, arrivals_bytes
from magvit_runtime.cuda.device import CudaDevice, open_device
from magvit_runtime.cuda.memory import LEGACY_STREAM, DeviceBuffer
from magvit_runtime.native_libraries.cuda_operators import (
    Addends,
    CudaOperators,
    Triple,
    Window,
    load_cuda_operators,
)
from magvit_runtime.native_libraries.operators import GroupNormOptions, group_norm_silu, lfq
from magvit_runtime.types import FloatType

Size = tuple[int, int, int, int]
Row = dict[str, Any]

# Channels, frames, height and width of the released encoder's levels.
SIZES: tuple[Size, ...] = ((128, 17, 128, 128), (256, 17, 64, 64), (512, 5, 16, 16))
# A half may be rounded the other way; float32 differs by the GPU's faster exponential.
TOLERANCES: dict[FloatType, float] = {"float16": 1e-3, "float32": 5e-6}
GROUPS, ROUNDS, LAUNCHES = 32, 5, 10
# Random numbers are drawn once and repeated; a prime period meets no map's strides.
PERIOD = 1_000_003


@dataclass(frozen=True)
class Gpu:
    """Where the operators run.

    Attributes:
        device: The GPU.
        operators: The operators.
        stream: A stream.
        memory: Frees what was allocated, at its end.
    """

    device: CudaDevice
    operators: CudaOperators
    stream: Any
    memory: ExitStack

    def upload(self, array: NDArray[Any]) -> int:
        """Address of a copy of an array."""
        address = self.allocate(array.nbytes)
        kind = self.device.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        data = np.ascontiguousarray(array)
        self.device.call("cudaMemcpy", address, data.ctypes.data, data.nbytes, kind)
        self.device.synchronize(LEGACY_STREAM)
        return address

    def allocate(self, size: int) -> int:
        """Address of zeros."""
        buffer = DeviceBuffer(self.device, size)
        self.memory.callback(buffer.close)
        self.device.call("cudaMemsetAsync", buffer.pointer, 0, size, self.stream)
        self.device.synchronize(self.stream)
        return buffer.pointer

    def download(self, address: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A copy of the array at an address."""
        array = np.empty(shape, dtype)
        kind = self.device.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.device.synchronize(self.stream)
        self.device.call("cudaMemcpy", array.ctypes.data, address, array.nbytes, kind)
        return array

    def microseconds(self, launch: Callable[[], None]) -> float:
        """GPU time of one launch of a row of them: the shortest of some rounds."""
        call, flags = self.device.call, self.device.runtime.cudaEventDefault
        start, end = (call("cudaEventCreateWithFlags", flags) for _ in range(2))
        times = []
        for _ in range(ROUNDS):
            call("cudaEventRecord", start, self.stream)
            for _ in range(LAUNCHES):
                launch()
            call("cudaEventRecord", end, self.stream)
            self.device.synchronize(self.stream)
            times.append(float(call("cudaEventElapsedTime", start, end)) * 1e3 / LAUNCHES)
        return min(times)


def main() -> None:
    """Checks all sizes at batches of 1 and 8."""
    seed = secrets.randbits(32)
    print_rows(
        [
            partial(check_case, batch=batch, size=size, dtype=dtype, seed=seed)
            for size in SIZES
            for dtype in TOLERANCES
            for batch in (1, 8)
        ],
        seed,
    )


def print_rows(checks: Iterable[Callable[[Gpu], list[Row]]], seed: int) -> None:
    """Runs checks one after the other, each in memory of its own, and prints their rows."""
    device = open_device()
    operators = load_cuda_operators()
    with device.current():
        stream = device.new_stream()
        with ExitStack() as memory:
            copy_rate = measure_copy(Gpu(device, operators, stream, memory), 2**28)
        for check in checks:
            with ExitStack() as memory:
                for row in check(Gpu(device, operators, stream, memory)):
                    rate = row.pop("bytes") / row["microseconds"] * 1e6
                    row |= {"seed": seed, "of_copy": round(rate / copy_rate, 3)}
                    print(json.dumps(row), flush=True)


def measure_copy(gpu: Gpu, size: int) -> float:
    """Bytes per second of a copy within the GPU, reads and writes counted."""
    source, target = gpu.allocate(size), gpu.allocate(size)
    kind = gpu.device.runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
    time = gpu.microseconds(
        lambda: gpu.device.call("cudaMemcpyAsync", target, source, size, kind, gpu.stream)
    )
    return 2 * size / time * 1e6


def check_case(gpu: Gpu, batch: int, size: Size, dtype: FloatType, seed: int) -> list[Row]:
    """The operators on one map: rows of a report, `bytes` being what a launch has to move."""
    channels, *sizes = size
    random = np.random.default_rng(seed)
    plain = new_map(batch, size, dtype)
    shape = (batch, *sizes, channels)
    features, residual = (normal(random, shape, dtype) for _ in range(2))
    bias, weight, shift = random.standard_normal((3, channels), np.float32)
    bordered = replace(plain, before=(2, 1, 1), after=(0, 1, 1))
    features_at, residual_at, sum_at = (
        gpu.upload(features),
        gpu.upload(residual),
        gpu.allocate(plain.size),
    )
    output_at = gpu.allocate(bordered.size)
    options = GroupNormOptions(
        num_groups=GROUPS,
        epsilon=1e-6,
        weight=gpu.upload(weight),
        bias=gpu.upload(shift),
        activation=1,
    )
    moments = gpu.allocate(gpu.operators.workspace_bytes(plain.at(features_at), GROUPS))
    arrivals = gpu.allocate(arrivals_bytes(batch))
    addends = Addends(gpu.upload(bias), residual_at)

    def statistics() -> None:
        gpu.operators.statistics(
            plain.at(features_at),
            addends,
            plain.at(sum_at),
            options,
            moments,
            arrivals,
            int(gpu.stream),
        )

    def apply() -> None:
        gpu.operators.apply(
            plain.at(sum_at),
            Addends(),
            plain.dtype,
            options,
            moments,
            bordered.at(output_at),
            int(gpu.stream),
        )

    statistics_time, apply_time = gpu.microseconds(statistics), gpu.microseconds(apply)
    found_sum = gpu.download(sum_at, shape, dtype)
    border = [*zip(bordered.before, bordered.after, strict=True), (0, 0)]
    padded = [sum(widths) + n for widths, n in zip(border, shape[1:], strict=True)]
    found = gpu.download(output_at, (batch, *padded), dtype)

    def errors(clip: int) -> tuple[float, float]:
        """The sum and the normalised map of one clip."""
        total = (features[clip].astype(np.float32) + bias + residual[clip]).astype(dtype)
        normalized = group_norm_silu(np.moveaxis(total[None], -1, 1), weight, shift, GROUPS)
        expected = np.pad(np.moveaxis(normalized[0], 0, -1), border)
        return largest_error(found_sum[clip], total), largest_error(found[clip], expected)

    with ThreadPoolExecutor() as pool:
        sum_errors, apply_errors = zip(*pool.map(errors, range(batch)), strict=True)
    facts = {"shape": [batch, *size], "dtype": dtype}
    rows = [
        report_row("statistics", facts, max(sum_errors), statistics_time, 3 * plain.size),
        report_row("apply", facts, max(apply_errors), apply_time, 2 * plain.size),
    ]
    if channels == SIZES[-1][0]:
        rows.append(_check_lfq(gpu, batch, size, dtype, random))
    if channels == SIZES[0][0]:
        rows.append(_check_pixels(gpu, bordered, random))
        rows.append(_check_unfolded_pixels(gpu, plain, random))
    return rows


def _check_lfq(
    gpu: Gpu, batch: int, size: Size, dtype: FloatType, random: np.random.Generator
) -> Row:
    sizes, bits = size[1:], 18
    latents = new_map(batch, (bits, *sizes), dtype)
    values = normal(random, (batch, *sizes, latents.pitch), dtype)
    source, ids = gpu.upload(values), gpu.allocate(4 * values[..., 0].size)
    time = gpu.microseconds(lambda: gpu.operators.lfq(latents.at(source), ids, int(gpu.stream)))
    expected = lfq(np.ascontiguousarray(np.moveaxis(values[..., :bits], -1, 1)))
    wrong = int((gpu.download(ids, expected.shape, "int32") != expected).sum())
    facts = {"shape": [batch, bits, *sizes], "dtype": dtype}
    return report_row("lfq", facts, wrong, time, values.nbytes + expected.nbytes)


def _check_pixels(gpu: Gpu, features: CudaMap, random: np.random.Generator) -> Row:
    target = replace(features, channels=3)
    frames = random.integers(0, 256, (target.batch, *target.sizes, 3), np.uint8)
    source, output = gpu.upload(frames), gpu.allocate(target.size)
    time = gpu.microseconds(
        lambda: gpu.operators.pixels(source, 127.5, -1.0, target.at(output), int(gpu.stream))
    )
    inside = frames.astype(np.float32) / np.float32(127.5) + np.float32(-1)
    padding = [
        (0, 0),
        *zip(target.before, target.after, strict=True),
        (0, target.pitch - target.channels),
    ]
    expected = np.pad(inside.astype(target.dtype), padding)
    found = gpu.download(output, expected.shape, target.dtype)
    facts = {"shape": [target.batch, 3, *target.sizes], "dtype": target.dtype}
    return report_row(
        "pixels", facts, largest_error(found, expected), time, frames.nbytes + target.size
    )


def _check_unfolded_pixels(gpu: Gpu, features: CudaMap, random: np.random.Generator) -> Row:
    """For the causal 3x3x3 conv of the released encoder, whose output is like `features`."""
    kernel, before, after = (3, 3, 3), (2, 1, 1), (0, 1, 1)
    target = replace(features, channels=3 * math.prod(kernel))
    sizes = Triple(*target.sizes)
    pads = Triple(*before), Triple(*after)
    window = Window(sizes, 3, Triple(*kernel), Triple(1, 1, 1), *pads)
    frames = random.integers(0, 256, (target.batch, *target.sizes, 3), np.uint8)
    source, output = gpu.upload(frames), gpu.allocate(target.size)
    stream = int(gpu.stream)
    time = gpu.microseconds(
        lambda: gpu.operators.unfolded_pixels(
            source, 127.5, -1.0, window, target.at(output), stream
        )
    )
    values = (frames.astype(np.float32) / np.float32(127.5) + np.float32(-1)).astype(target.dtype)
    padded = np.pad(values, [(0, 0), *zip(before, after, strict=True), (0, 0)])
    shape = (target.batch, *target.sizes, target.pitch)
    found = gpu.download(output, shape, target.dtype)
    # Tap by tap, since the map is large: [3, 3, 3] windows of three channels, then the padding.
    errors = [largest_error(found[..., target.channels :], np.zeros(1))]
    for tap, (t, y, x) in enumerate(np.ndindex(*kernel)):
        frames_of, rows, columns = (
            slice(start, start + size) for start, size in zip((t, y, x), target.sizes, strict=True)
        )
        expected = padded[:, frames_of, rows, columns]
        errors.append(largest_error(found[..., 3 * tap : 3 * tap + 3], expected))
    facts = {"shape": [target.batch, target.channels, *target.sizes], "dtype": target.dtype}
    return report_row("unfolded pixels", facts, max(errors), time, frames.nbytes + target.size)


def new_map(batch: int, size: Size, dtype: FloatType) -> CudaMap:
    """A map without a border."""
    channels, frames, height, width = size
    return CudaMap("", dtype, batch, (frames, height, width), channels)


def normal(
    random: np.random.Generator, shape: tuple[int, ...], dtype: FloatType
) -> NDArray[np.floating]:
    """Normal numbers, which repeat after `PERIOD`."""
    period = random.standard_normal(PERIOD, np.float32).astype(dtype)
    return np.resize(period, shape)


def largest_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest error, relative above 1; infinite if a value isn't finite."""
    wanted = expected.astype(np.float32)
    errors = np.abs(found.astype(np.float32) - wanted) / (1 + np.abs(wanted))
    return float(np.where(np.isfinite(errors), errors, np.inf).max())


def report_row(
    operator: str, facts: dict[str, Any], error: float, microseconds: float, moved: int
) -> Row:
    """A row: `error` is compared with the tolerance of the type, `moved` is bytes."""
    tolerance = TOLERANCES[facts["dtype"]]
    return {
        "operator": operator,
        **facts,
        "passed": error <= tolerance,
        "max_error": min(error, 1e30),
        "tolerance": tolerance,
        "microseconds": round(microseconds, 2),
        "bytes": moved,
    }


if __name__ == "__main__":
    main()
