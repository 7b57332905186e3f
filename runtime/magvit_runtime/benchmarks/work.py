"""How much an encoder's graph computes and moves, and how fast this CPU can do both."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.program import Program
from magvit_runtime.benchmarks.results import Ceilings, Work
from magvit_runtime.bundle.manifest import GraphWork
from magvit_runtime.hardware.cpu import usable_cpus

_MATRIX = 2048
_COPY_BYTES = 256 * 2**20  # Much larger than the caches.
_TRIES = 5


def encoder_work(program: Program, clip_shape: tuple[int, ...]) -> Work:
    """The work of an encoder's convs for one clip.

    Args:
        program: The encoder.
        clip_shape: [T, H, W, 3] or [H, W, 3].

    Raises:
        BackendError: The clip is too small for the encoder.
    """
    (frames,) = program.inputs
    shapes = program.shapes({frames.name: frames.clip_shape((1, *clip_shape))})
    flop = weights = moved = 0.0
    for conv in program.convs:
        positions = prod(shapes[conv.output][:3])
        flop += 2.0 * positions * conv.weight.size
        weights += conv.weight.nbytes
        elements = sum(prod(shapes[name]) for name in (*conv.reads, conv.output))
        moved += elements * conv.weight.itemsize
    return Work(flop, weights, moved)


def recorded_work(work: GraphWork, clip_shape: tuple[int, ...]) -> Work | None:
    """The exporter's count for clips of exactly this shape; None for another shape."""
    if [shape[1:] for shape in work.shapes.values()] != [clip_shape]:
        return None
    return Work(work.flop, work.weight_bytes, work.map_bytes)


def measure_ceilings() -> Ceilings:
    """The best of a few matrix products and copies on all CPUs: about two seconds."""
    random = np.random.default_rng(0)
    left, right = random.random((2, _MATRIX, _MATRIX), np.float32)
    product = np.empty_like(left)
    product_seconds = _best(lambda: np.matmul(left, right, out=product))
    source = np.ones(_COPY_BYTES, np.uint8)
    target = np.zeros_like(source)
    parts = usable_cpus()

    def copy(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
        np.copyto(*pair)  # Without the interpreter's lock, so the parts run side by side.

    pieces = list(zip(np.array_split(target, parts), np.array_split(source, parts), strict=True))
    with ThreadPoolExecutor(parts) as pool:
        copy_seconds = _best(lambda: list(pool.map(copy, pieces)))
    return Ceilings(2 * _MATRIX**3 / product_seconds, 2 * _COPY_BYTES / copy_seconds)


def _best(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_TRIES):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
