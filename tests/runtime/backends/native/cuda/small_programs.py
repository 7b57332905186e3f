"""Programs for tests, and what they compute, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from runtime.stand_in_cudnn import conv

from magvit_runtime.backends.native.program import (
    Conv,
    Input,
    LookupFreeQuantization,
    Normalization,
    Output,
    PixelNormalization,
    Program,
)

# Frames, height and width of the smallest clip of a program whose convs our own kernel runs.
SIZES = (3, 32, 8)


def reference(program: Program, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Latents [N, T, H, W, C]."""
    pixels = program.steps[0]
    assert isinstance(pixels, PixelNormalization)
    values = {pixels.output: frames / pixels.divisor + pixels.offset}
    for step in program.convs:
        x = values[step.input]
        if step.normalization is not None:
            norm = step.normalization
            grouped = x.reshape(*x.shape[:4], norm.groups, -1)
            mean = grouped.mean((1, 2, 3, 5), keepdims=True)
            variance = grouped.var((1, 2, 3, 5), keepdims=True)
            x = ((grouped - mean) / np.sqrt(variance + norm.epsilon)).reshape(x.shape)
            x = x * norm.weight + norm.bias
            if norm.activation == "silu":
                x = x / (1 + np.exp(-x))
        pads = zip(step.pads_before, step.pads_after, strict=True)
        kernel = np.moveaxis(step.weight, 1, -1).astype(np.float64)
        y = conv(np.pad(x, [(0, 0), *pads, (0, 0)]), kernel, step.stride)
        if step.bias is not None:
            y = y + step.bias
        if step.residual is not None:
            y = y + values[step.residual]
        values[step.output] = y
    return values[program.convs[-1].output]


def residual_block(groups: int = 32, residual: bool = True) -> Program:
    """A first conv, two of a kind that our kernel runs, a strided one and the latents'."""
    random = np.random.default_rng(7)

    def step_of(index: int, shape: tuple[int, ...], dtype: str = "float16", **facts: Any) -> Conv:
        fan_in = np.prod(shape[1:])
        step = Conv(
            name=f"conv{index}",
            input=f"y{index - 1}" if index else "pixels",
            output=f"y{index}",
            weight=(random.standard_normal(shape) / np.sqrt(fan_in)).astype(dtype),
            bias=random.standard_normal(shape[0]).astype(np.float32),
            stride=(1, 1, 1),
            pads_before=(2, 1, 1) if shape[-1] == 3 else (0, 0, 0),
            pads_after=(0, 1, 1) if shape[-1] == 3 else (0, 0, 0),
            normalization=None,
            residual=None,
            output_type="float16" if dtype == "float16" else "float32",
        )
        return replace(step, **facts)

    def norm() -> Normalization:
        weight, bias = random.standard_normal((2, 128)).astype(np.float32)
        return Normalization(groups, 1e-6, weight, bias, "silu")

    full = (128, 128, 3, 3, 3)
    convs = (
        step_of(0, (128, 3, 3, 3, 3)),
        step_of(1, full, normalization=norm()),
        step_of(2, full, normalization=norm(), residual="y0" if residual else None),
        step_of(3, full, stride=(1, 2, 2)),
        step_of(4, (18, 128, 1, 1, 1), "float32", normalization=norm()),
    )
    return Program(
        inputs=(Input("frames", "uint8", "NTHWC", 3),),
        steps=(
            PixelNormalization("frames", "pixels", 127.5, -1.0),
            *convs,
            LookupFreeQuantization("y4", "codes"),
        ),
        outputs=(
            Output("ids", "codes", "NTHW", "int32"),
            Output("latents", "y4", "NCTHW", "float32"),
        ),
    )


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())
