"""Opens programs on the stand-in GPU, with plans of either padding, of whole convs or of parts."""

from __future__ import annotations

from collections.abc import Callable

from runtime.stand_in_cudnn import NumpyConvs, operators_on
from runtime.stand_in_gpu import Cuda

from magvit_runtime.backends.native.cuda.conv_plans import (
    ConvGeometry,
    ConvPrecision,
    Padding,
)
from magvit_runtime.backends.native.cuda.executor import CudaExecutor
from magvit_runtime.backends.native.program import Program
from magvit_runtime.cuda.device import open_device

PaddingOf = Callable[[ConvGeometry], Padding]
TimeOf = Callable[[ConvGeometry], float]


def implied(geometry: ConvGeometry) -> Padding:
    return geometry.paddings[0]


def border(geometry: ConvGeometry) -> Padding:
    return geometry.paddings[-1]


def mixed(geometry: ConvGeometry) -> Padding:
    return geometry.paddings[sum(geometry.sizes) % len(geometry.paddings)]


def whole_is_faster(geometry: ConvGeometry) -> float:
    return 100.0 if geometry.clip_frames is None else 1000.0


def parts_are_faster(geometry: ConvGeometry) -> float:
    return 1000.0 if geometry.clip_frames is None else 1.0


def open_program(
    cuda: Cuda,
    program: Program,
    precision: ConvPrecision = "fp32",
    padding_of: PaddingOf = mixed,
    workers: int = 1,
    time_of: TimeOf = whole_is_faster,
) -> CudaExecutor:
    device = open_device()
    convs = NumpyConvs(cuda, padding_of, time_of)
    return CudaExecutor(program, precision, device, operators_on(cuda), convs, workers)
