"""Compares the CUDA operators of decoders and of codebooks with NumPy's results, and times them.

    python kernels/gpu_check/check_decoding.py

On fresh random inputs of the released sizes. Prints one line of JSON per case, as
check_operators.py does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from check_operators import (
    TOLERANCES,
    Gpu,
    Row,
    Size,
    largest_error,
    new_map,
    normal,
    print_rows,
    report_row,
)
from numpy.typing import NDArray

from magvit_runtime.backends.native.cuda.maps import CudaMap
from magvit_runtime.native_libraries.cuda_operators import (
    AttentionBiases,
    ChannelStatistic,
    Rounding,
)
from magvit_runtime.native_libraries.operators import codebook_argmax
from magvit_runtime.types import FloatType


@dataclass(frozen=True)
class Sizes:
    """Channels, frames, height and width of the maps that are checked.

    Attributes:
        codes: A video decoder's codes.
        rows: An image's rows of a codebook.
        attention: An image's attention.
        coarse: What a video decoder's upsampler writes before blocks of 2x2x2.
        repeated: What an image decoder repeats.
        colours: A video decoder's last map.
        codebook: Rows.
    """

    codes: Size = (18, 5, 16, 16)
    rows: Size = (256, 1, 16, 16)
    attention: Size = (512, 1, 16, 16)
    coarse: Size = (4096, 5, 16, 16)
    repeated: Size = (128, 1, 128, 128)
    colours: Size = (3, 17, 128, 128)
    codebook: int = 16384


RELEASED = Sizes()
# Two sums of a dot product's terms in another order are this far apart; so may be the ids' scores.
MARGIN_TOLERANCE = 1e-3


def main() -> None:
    """Checks all operators at batches of 1 and 8."""
    seed = secrets.randbits(32)
    print_rows(
        [
            partial(check, batch=batch, dtype=dtype, seed=seed, sizes=RELEASED)
            for check in CHECKS
            for dtype in TOLERANCES
            for batch in (1, 8)
        ],
        seed,
    )


def check_entries(gpu: Gpu, batch: int, dtype: FloatType, seed: int, sizes: Sizes) -> list[Row]:
    """Ids to codes and to rows of a codebook, into borders."""
    random = np.random.default_rng(seed)
    codes, rows = new_map(batch, sizes.codes, dtype), new_map(batch, sizes.rows, dtype)
    codes = replace(codes, before=(2, 1, 1), after=(0, 1, 1))
    bits = random.integers(0, 2**codes.channels, (batch, *codes.sizes), np.int32)
    ids = random.integers(0, sizes.codebook, (batch, *rows.sizes), np.int32)
    codebook = random.standard_normal((sizes.codebook, rows.pitch), np.float32)
    signs = (bits[..., None] >> np.arange(codes.channels) & 1) * 2.0 - 1
    bits_at, ids_at, codebook_at = gpu.upload(bits), gpu.upload(ids), gpu.upload(codebook)

    def enter_codes(output: int) -> None:
        gpu.operators.lfq_codes(bits_at, codes.at(output), int(gpu.stream))

    def enter_rows(output: int) -> None:
        gpu.operators.codebook_rows(
            ids_at, codebook_at, sizes.codebook, rows.at(output), int(gpu.stream)
        )

    return [
        _written("codes", gpu, codes, enter_codes, signs, bits.nbytes),
        _written(
            "rows", gpu, rows, enter_rows, codebook[ids][..., : rows.channels], codebook[ids].nbytes
        ),
    ]


def check_vectors(gpu: Gpu, batch: int, dtype: FloatType, seed: int, sizes: Sizes) -> list[Row]:
    """Scales and shifts of an adaptive norm of 512 channels."""
    random = np.random.default_rng(seed)
    codes, outputs = new_map(batch, sizes.codes, dtype), 512
    values = random.choice(np.array([-1, 1], dtype), (batch, *codes.sizes, codes.pitch))
    values[..., codes.channels :] = 0
    weights = random.standard_normal((2, outputs, codes.channels), np.float32) / 4
    bias = random.standard_normal((2, outputs), np.float32)
    source, vectors = gpu.upload(values), gpu.allocate(8 * batch * outputs)
    scale, shift = (
        ChannelStatistic(
            is_spread=1 - i,
            epsilon=1e-6,
            weight=gpu.upload(weights[i]),
            bias=gpu.upload(bias[i]),
            vectors=vectors + 4 * batch * outputs * i,
        )
        for i in range(2)
    )
    time = gpu.microseconds(
        lambda: gpu.operators.channel_vectors(
            codes.at(source), scale, shift, outputs, int(gpu.stream)
        )
    )
    flat = values[..., : codes.channels].reshape(batch, -1, codes.channels).astype(np.float64)
    spread = np.sqrt(flat.var(axis=1, ddof=1) + 1e-6)
    expected = np.stack(
        [spread @ weights[0].T + bias[0], flat.mean(axis=1) @ weights[1].T + bias[1]]
    )
    error = largest_error(gpu.download(vectors, expected.shape, "float32"), expected)
    moved = values.nbytes + weights.nbytes
    return [report_row("channel vectors", _facts(codes), error, time, moved)]


def check_finer_maps(gpu: Gpu, batch: int, dtype: FloatType, seed: int, sizes: Sizes) -> list[Row]:
    """Depth to space with a bias, and repetition into a border."""
    random, block = np.random.default_rng(seed), (2, 2, 2)
    coarse, few = new_map(batch, sizes.coarse, dtype), new_map(batch, sizes.repeated, dtype)
    (t, h, w), channels = coarse.sizes, coarse.channels // 8
    finer = new_map(batch, (channels, 2 * t - 1, 2 * h, 2 * w), dtype)
    bias = random.standard_normal(coarse.channels, np.float32)
    blocks = normal(random, (batch, *coarse.sizes, coarse.channels), dtype)
    blocks_at, bias_at = gpu.upload(blocks), gpu.upload(bias)
    parts = (blocks + bias).astype(dtype).reshape(batch, t, h, w, *block, channels)
    moved_parts = parts.transpose(0, 1, 4, 2, 5, 3, 6, 7)
    positions = moved_parts.reshape(batch, 2 * t, 2 * h, 2 * w, channels)
    _, rows, columns = few.sizes
    larger = new_map(batch, (few.channels, 1, 2 * rows, 2 * columns), dtype)
    larger = replace(larger, before=(0, 1, 1), after=(0, 1, 1))
    pixels = normal(random, (batch, *few.sizes, few.channels), dtype)
    pixels_at = gpu.upload(pixels)

    def move(output: int) -> None:
        gpu.operators.depth_to_space(
            coarse.at(blocks_at), bias_at, block, finer.at(output), int(gpu.stream)
        )

    def repeat(output: int) -> None:
        gpu.operators.repeat(few.at(pixels_at), 2, 2, larger.at(output), int(gpu.stream))

    kept = np.delete(positions, 1, axis=1)
    repeated = pixels.repeat(2, axis=2).repeat(2, axis=3)
    return [
        _written("depth to space", gpu, finer, move, kept, blocks.nbytes),
        _written("repeat", gpu, larger, repeat, repeated, pixels.nbytes),
    ]


def check_attention(gpu: Gpu, batch: int, dtype: FloatType, seed: int, sizes: Sizes) -> list[Row]:
    """Attention with biases, against NumPy in float64."""
    random = np.random.default_rng(seed)
    one = new_map(batch, sizes.attention, dtype)
    maps = [normal(random, (batch, *one.sizes, one.channels), dtype) for _ in range(3)]
    biases = random.standard_normal((3, one.channels), np.float32)
    queries, keys, values = (one.at(gpu.upload(array)) for array in maps)
    added = AttentionBiases(*(gpu.upload(bias) for bias in biases))
    products = gpu.allocate(gpu.operators.attention_workspace_bytes(queries))

    def attend(output: int) -> None:
        gpu.operators.attention(
            queries, keys, values, added, one.at(output), products, int(gpu.stream)
        )

    q, k, v = (
        array.reshape(batch, -1, one.channels).astype(np.float64) + bias
        for array, bias in zip(maps, biases, strict=True)
    )
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(one.channels)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (weights / weights.sum(axis=-1, keepdims=True)) @ v
    # The products are float32, written once and read once.
    moved = 3 * maps[0].nbytes + 2 * 4 * scores.size
    return [_written("attention", gpu, one, attend, mixed.reshape(maps[0].shape), moved)]


def check_ends(gpu: Gpu, batch: int, dtype: FloatType, seed: int, sizes: Sizes) -> list[Row]:
    """A map to bytes and to channels first, and the search of a codebook."""
    random = np.random.default_rng(seed)
    colours, latents = new_map(batch, sizes.colours, dtype), new_map(batch, sizes.rows, dtype)
    values = normal(random, (batch, *colours.sizes, colours.pitch), dtype)
    bias = random.standard_normal(colours.channels, np.float32) / 8
    source, bias_at = gpu.upload(values), gpu.upload(bias)
    shape = (batch, *colours.sizes, colours.channels)
    frames = gpu.allocate(int(np.prod(shape)))
    rule = Rounding(-1.0, 1.0, 1.0, 127.5, 0.5)
    time = gpu.microseconds(
        lambda: gpu.operators.bytes_of(colours.at(source), bias_at, rule, frames, int(gpu.stream))
    )
    clipped = np.clip(values[..., : colours.channels].astype(np.float32) + bias, -1, 1)
    levels = (clipped + np.float32(1)) * np.float32(127.5) + np.float32(0.5)
    wrong = int((gpu.download(frames, shape, "uint8") != np.floor(levels).astype(np.uint8)).sum())
    rows = [report_row("bytes", _facts(colours), wrong, time, values.nbytes + levels.size)]

    vectors = normal(random, (batch, *latents.sizes, latents.channels), dtype)
    vectors_at, output = gpu.upload(vectors), gpu.allocate(4 * vectors.size)
    time = gpu.microseconds(
        lambda: gpu.operators.channels_first(latents.at(vectors_at), output, int(gpu.stream))
    )
    first = np.ascontiguousarray(np.moveaxis(vectors, -1, 1))
    error = largest_error(gpu.download(output, first.shape, "float32"), first)
    moved = vectors.nbytes + 4 * vectors.size
    rows.append(report_row("channels first", _facts(latents), error, time, moved))
    rows.append(_check_search(gpu, latents, vectors_at, first, random, sizes.codebook))
    return rows


def _check_search(
    gpu: Gpu,
    latents: CudaMap,
    vectors: int,
    first: NDArray[Any],
    random: np.random.Generator,
    count: int,
) -> Row:
    codebook = random.standard_normal((count, latents.channels), np.float32)
    shape = (latents.batch, *latents.sizes)
    size = 4 * int(np.prod(shape))
    codebook_at, ids, margins = gpu.upload(codebook), gpu.allocate(size), gpu.allocate(size)
    workspace = gpu.allocate(gpu.operators.codebook_workspace_bytes(latents.at(vectors)))
    time = gpu.microseconds(
        lambda: gpu.operators.codebook_argmax(
            latents.at(vectors), codebook_at, count, ids, margins, workspace, int(gpu.stream)
        )
    )
    expected, expected_margins = codebook_argmax(first, codebook)
    off = np.abs(gpu.download(margins, shape, "float32") - expected_margins)
    is_clear = expected_margins > MARGIN_TOLERANCE
    wrong = int(((gpu.download(ids, shape, "int32") != expected) & is_clear).sum())
    wrong += int((~(off <= MARGIN_TOLERANCE)).sum())
    return report_row("codebook", _facts(latents), wrong, time, codebook.nbytes)


def _written(
    operator: str,
    gpu: Gpu,
    target: CudaMap,
    launch: Callable[[int], None],
    expected: NDArray[Any],
    read: int,
) -> Row:
    """A row of an operator that writes a map: its interior, padding channels and border."""
    output = gpu.allocate(target.size)
    time = gpu.microseconds(lambda: launch(output))
    border = list(zip(target.before, target.after, strict=True))
    widths = [(0, 0), *border, (0, target.pitch - target.channels)]
    padded = np.pad(expected, widths)
    error = largest_error(gpu.download(output, padded.shape, target.dtype), padded)
    return report_row(operator, _facts(target), error, time, read + target.size)


def _facts(features: CudaMap) -> dict[str, Any]:
    shape = [features.batch, features.channels, *features.sizes]
    return {"shape": shape, "dtype": features.dtype}


CHECKS: tuple[Callable[..., list[Row]], ...] = (
    check_entries,
    check_vectors,
    check_finer_maps,
    check_attention,
    check_ends,
)


if __name__ == "__main__":
    main()
