"""Which convs read unfolded pixels on a GPU, and that they compute what they did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from runtime import stand_in_gpu
from runtime.backends.native.cuda.on_stand_in import border, open_program
from runtime.stand_in_gpu import Cuda

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_runtime.backends.native.cpu.executor import CpuExecutor
from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan
from magvit_runtime.backends.native.cuda.schedule import Workspaces, plan_schedule
from magvit_runtime.backends.native.cuda.steps import Convolution, Pixels, Step, UnfoldedPixels
from magvit_runtime.backends.native.cuda.unfolding import (
    MOST_UNFOLDED_CHANNELS,
    unfolded_pixels,
    unfolded_weight,
)
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.native.program import (
    ClipShape,
    Conv,
    Input,
    Output,
    PixelNormalization,
    Program,
    Sizes,
)
from magvit_runtime.bundle.onnx_file import read_graph

HEADER = Path(__file__).parents[5] / "kernels" / "include" / "magvit" / "cuda_operators.h"
PIXELS = PixelNormalization("frames", "pixels", 127.5, -1.0)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return stand_in_gpu.install(monkeypatch)[0]


def conv_of(
    kernel: Sizes, stride: Sizes = (1, 1, 1), dtype: str = "float32", channels: int = 12
) -> Conv:
    """A causal conv of pixels that keeps their sizes but for its stride."""
    random = np.random.default_rng(1)
    t, h, w = kernel
    return Conv(
        name="conv",
        input="pixels",
        output="features",
        weight=(random.standard_normal((channels, 3, *kernel)) / 5).astype(dtype),
        bias=random.standard_normal(channels).astype(np.float32),
        stride=stride,
        pads_before=(t - 1, h // 2, w // 2),
        pads_after=(0, h // 2, w // 2),
        normalization=None,
        residual=None,
        output_type="float16" if dtype == "float16" else "float32",
    )


def program_of(*convs: Conv) -> Program:
    """A program of pixels and convs that gives the features of the last one."""
    return Program(
        inputs=(Input("frames", "uint8", "NTHWC", 3),),
        steps=(PIXELS, *convs),
        outputs=(Output("latents", convs[-1].output, "NCTHW", "float32"),),
    )


def clips_of(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def scheduled(program: Program, clip: ClipShape, batch: int = 1) -> tuple[Step, ...]:
    """The steps of a half-precision run."""

    def plan_of(geometry: ConvGeometry) -> ConvPlan:
        return ConvPlan(border(geometry), 0, {}, 0, 1.0)

    shapes = program.shapes({program.inputs[0].name: clip})
    workspaces = Workspaces(lambda *_: 0, lambda _: 0, lambda _: 0)
    return plan_schedule(program, batch, shapes, "fp16", plan_of, workspaces).steps


@pytest.mark.parametrize(
    ("model", "clip", "channels"),
    [
        ("open-magvit2-video-128", (17, 128, 128, 3), 88),
        ("open-magvit2-image-128", (1, 128, 128, 3), 32),
    ],
)
def test_a_released_encoders_first_conv_has_a_kernel_of_one(
    tmp_path: Path, model: str, clip: ClipShape, channels: int
) -> None:
    released = find_model(model)
    config = msgspec.structs.replace(released.config, num_res_blocks=1)
    export_model(
        released, tmp_path, weights="seeded", roles=["encode"], config=config, precision="fp16"
    )
    steps = scheduled(lower(read_graph(tmp_path / "encode.fp16.onnx")), clip, batch=8)
    assert not any(isinstance(step, Pixels) for step in steps)
    unfolded, first = steps[:2]
    assert isinstance(unfolded, UnfoldedPixels)
    assert isinstance(first, Convolution)
    assert first.input == unfolded.output
    assert first.geometry == ConvGeometry(
        precision="fp16",
        batch=8,
        sizes=(1, clip[0] * clip[1], clip[2]),
        in_channels=channels,
        out_channels=128,
        kernel=(1, 1, 1),
        stride=(1, 1, 1),
        pads_before=(0, 0, 0),
        pads_after=(0, 0, 0),
        is_padded=True,
    )


@pytest.mark.parametrize("precision", ["fp16", "tf32", "fp32"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [
        ((3, 3, 3), (1, 1, 1)),
        ((3, 3, 3), (2, 2, 2)),
        ((1, 3, 3), (1, 1, 1)),
        ((1, 5, 5), (1, 2, 3)),
    ],
)
def test_a_conv_of_unfolded_pixels_is_the_conv_of_the_pixels(
    cuda: Cuda, precision: Any, batch: int, kernel: Sizes, stride: Sizes
) -> None:
    dtype = "float16" if precision == "fp16" else "float32"
    program = program_of(conv_of(kernel, stride, dtype))
    assert unfolded_pixels(program, 1) == PIXELS
    frames = clips_of(batch, 5, 9, 11)
    encoder = open_program(cuda, program, precision)
    (found,) = encoder.run({"frames": frames}, ["latents"])
    encoder.close()
    weight = program.convs[0].weight.astype(np.float32)
    in_float32 = program_of(replace(conv_of(kernel, stride), weight=weight))
    (expected,) = CpuExecutor(in_float32).run({"frames": frames}, ["latents"])
    np.testing.assert_allclose(found, expected, atol=1e-2 if precision == "fp16" else 1e-5)


def test_pixels_that_are_read_otherwise_stay_as_they_are() -> None:
    conv = conv_of((3, 3, 3))
    second = replace(conv, output="others")
    alone = program_of(conv)
    assert unfolded_pixels(alone, 0) is None
    pixels_too = replace(
        alone, outputs=(*alone.outputs, Output("pixels", "pixels", "NCTHW", "float32"))
    )
    residual = replace(conv_of((3, 3, 3), channels=3), residual="pixels")
    of_features = replace(conv_of((1, 3, 3)), input="features", output="others")
    of_features = replace(of_features, weight=np.zeros((12, 12, 1, 3, 3), np.float32))
    for program, index in [
        (program_of(conv, second), 1),
        (program_of(conv, second), 2),
        (pixels_too, 1),
        (program_of(residual), 1),
        (program_of(conv_of((1, 1, 1))), 1),
        (program_of(conv, of_features), 2),
    ]:
        assert unfolded_pixels(program, index) is None


def test_windows_of_too_many_channels_are_not_unfolded() -> None:
    assert unfolded_pixels(program_of(conv_of((2, 3, 7))), 1) == PIXELS
    assert unfolded_pixels(program_of(conv_of((1, 7, 7))), 1) is None
    text = HEADER.read_text()
    assert f"#define MAGVIT_MOST_UNFOLDED_CHANNELS {MOST_UNFOLDED_CHANNELS}\n" in text


def test_weights_are_in_the_order_of_the_unfolded_channels() -> None:
    weight = np.arange(2 * 3 * 2 * 3 * 4).reshape(2, 3, 2, 3, 4)
    found = unfolded_weight(weight)
    assert found.shape == (2, 72, 1, 1, 1)
    for c, t, y, x in np.ndindex(*weight.shape[1:]):
        channel = ((t * 3 + y) * 4 + x) * 3 + c
        np.testing.assert_array_equal(found[:, channel, 0, 0, 0], weight[:, c, t, y, x])
