"""Opens programs on the stand-in GPU, with plans of either padding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from runtime.stand_in_cudnn import NumpyConvs, operators_on
from runtime.stand_in_gpu import Cuda

from magvit_runtime.backends.native.cuda.conv_plans import (
    ConvGeometry,
    ConvPrecision,
    Padding,
)
from magvit_runtime.backends.native.cuda.executor import CudaExecutor
from magvit_runtime.backends.native.cuda.own_convs import fits_own
from magvit_runtime.backends.native.program import Program
from magvit_runtime.cuda.device import open_device

PaddingOf = Callable[[ConvGeometry], Padding]


def implied(geometry: ConvGeometry) -> Padding:
    return geometry.paddings[0]


def border(geometry: ConvGeometry) -> Padding:
    return geometry.paddings[-1]


def mixed(geometry: ConvGeometry) -> Padding:
    return geometry.paddings[sum(geometry.sizes) % len(geometry.paddings)]


def open_program(
    cuda: Cuda,
    program: Program,
    precision: ConvPrecision = "fp32",
    padding_of: PaddingOf = mixed,
    workers: int = 1,
) -> CudaExecutor:
    device, operators = open_device(), operators_on(cuda)
    convs = NumpyConvs(cuda, padding_of, partial(fits_own, operators))
    return CudaExecutor(program, precision, device, operators, convs, workers)
