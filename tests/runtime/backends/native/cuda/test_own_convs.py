"""Convs by our own kernel: which they are, how they join the steps around them, and when they win.

The kernel itself needs its GPU (`test_on_gpu.py`, gpu-check's step `conv`). Here a plain loop
stands in for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime import stand_in_gpu
from runtime.backends.native.cuda.on_stand_in import implied, open_program
from runtime.backends.native.cuda.small_programs import (
    SIZES,
    reference,
    relative_error,
    residual_block,
)
from runtime.backends.native.cuda.test_cudnn import StandInCudnn, milliseconds
from runtime.backends.native.cuda.test_executor import NO_WORKSPACES, clips_of
from runtime.stand_in_cudnn import operators_on
from runtime.stand_in_gpu import Cuda

from magvit_runtime.backends.native.cuda import own_convs
from magvit_runtime.backends.native.cuda.conv_plans import (
    OWN_ENGINE,
    ConvGeometry,
    ConvPlan,
    PlanCache,
)
from magvit_runtime.backends.native.cuda.cudnn_convs import CudnnConvs
from magvit_runtime.backends.native.cuda.own_convs import fits_own
from magvit_runtime.backends.native.cuda.schedule import plan_schedule
from magvit_runtime.backends.native.cuda.steps import (
    Apply,
    Convolution,
    OwnConvolution,
    Statistics,
)
from magvit_runtime.backends.native.program import (
    Conv,
    Program,
)
from magvit_runtime.cuda.device import open_device
from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.cuda_operators import Addends
from magvit_runtime.native_libraries.operators import GroupNormOptions

CAUSAL = ConvGeometry(
    precision="fp16",
    batch=1,
    sizes=SIZES,
    in_channels=64,
    out_channels=128,
    kernel=(3, 3, 3),
    stride=(1, 1, 1),
    pads_before=(2, 1, 1),
    pads_after=(0, 1, 1),
)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return stand_in_gpu.install(monkeypatch)[0]


@pytest.mark.parametrize(("groups", "residual"), [(32, True), (32, False), (1, True)])
def test_a_program_with_them_computes_what_it_says(cuda: Cuda, groups: int, residual: bool) -> None:
    program, frames = residual_block(groups, residual), clips_of(2, *SIZES)
    encoder = open_program(cuda, program, "fp16", implied)
    expected = np.moveaxis(reference(program, frames), -1, 1)
    for _ in range(3):  # Plain, captured, replayed.
        (latents,) = encoder.run({"frames": frames}, ["latents"])
        assert relative_error(latents, expected) < 3e-3
    encoder.close()


def schedule_of(program: Program, cuda: Cuda) -> list[Any]:
    operators = operators_on(cuda)

    def plan_of(geometry: ConvGeometry) -> ConvPlan:
        engine = OWN_ENGINE if fits_own(operators, geometry) else 0
        return ConvPlan("implied", engine, {}, 0, 1.0)

    shapes = program.shapes({"frames": (*SIZES, 3)})
    steps = plan_schedule(program, 1, shapes, "fp16", plan_of, NO_WORKSPACES).steps
    return list(steps)


def test_they_add_bias_and_residual_and_take_the_moments(cuda: Cuda) -> None:
    steps = schedule_of(residual_block(), cuda)
    first, second = (step for step in steps if isinstance(step, OwnConvolution))
    assert sum(isinstance(step, Convolution) for step in steps) == 3
    # The second normalisation reads the first one's output, and a conv alone reads the second's.
    assert (first.added.bias_of, first.added.residual) == (2, None)
    assert first.moments is not None
    assert second.added.bias_of == 3
    assert second.added.residual is not None
    assert second.moments is None
    # What is left: the moments of the first conv's output and of the strided one's, three
    # normalised inputs, and the bias of the latents.
    assert sum(isinstance(step, Statistics) for step in steps) == 2
    assert sum(isinstance(step, Apply) for step in steps) == 4


def test_moments_of_groups_that_are_too_wide_are_a_pass_of_their_own(cuda: Cuda) -> None:
    steps = schedule_of(residual_block(groups=1), cuda)
    assert all(step.moments is None for step in steps if isinstance(step, OwnConvolution))
    assert sum(isinstance(step, Statistics) for step in steps) == 3


def test_a_sum_of_another_type_is_left_to_the_next_step(cuda: Cuda) -> None:
    program = residual_block()
    pixels, first, second, *rest = program.steps
    assert isinstance(second, Conv)
    island = replace(program, steps=(pixels, first, replace(second, output_type="float32"), *rest))
    conv = next(step for step in schedule_of(island, cuda) if isinstance(step, OwnConvolution))
    assert not conv.added
    assert conv.moments is None
    frames = clips_of(1, *SIZES)
    encoder = open_program(cuda, island, "fp16", implied)
    (latents,) = encoder.run({"frames": frames}, ["latents"])
    assert relative_error(latents, np.moveaxis(reference(island, frames), -1, 1)) < 3e-3
    encoder.close()


def test_channels_that_fill_a_tile_only_with_padding_are_cudnns(cuda: Cuda) -> None:
    pixels, first, second, _, _, last, quantization = residual_block().steps
    assert isinstance(second, Conv)
    assert isinstance(last, Conv)
    assert second.bias is not None
    second = replace(second, weight=second.weight[:125], bias=second.bias[:125])
    last = replace(last, input=second.output, weight=last.weight[:, :125], normalization=None)
    narrow = replace(residual_block(), steps=(pixels, first, second, last, quantization))
    assert not any(isinstance(step, OwnConvolution) for step in schedule_of(narrow, cuda))
    frames = clips_of(1, *SIZES)
    encoder = open_program(cuda, narrow, "fp16", implied)
    (latents,) = encoder.run({"frames": frames}, ["latents"])
    assert relative_error(latents, np.moveaxis(reference(narrow, frames), -1, 1)) < 3e-3
    encoder.close()


@pytest.mark.parametrize("groups", [1, 2, 4, 128])
def test_the_library_takes_moments_of_the_same_groups(cuda: Cuda, groups: int) -> None:
    program = residual_block(groups)
    first = next(step for step in schedule_of(program, cuda) if isinstance(step, OwnConvolution))
    source, output = own_convs.own_maps(replace(CAUSAL, sizes=(1, 32, 8)))
    arrays = {name: _aligned(np.zeros(2**20, np.float16)) for name in ("x", "w", "y", "moments")}
    x, w, y, moments = (array.ctypes.data for array in arrays.values())
    options = GroupNormOptions(num_groups=groups, epsilon=1e-6)

    def take_moments() -> None:
        operators_on(cuda).conv(source.at(x), w, 1, Addends(), output.at(y), options, moments, 0)

    if first.moments is not None:
        take_moments()
    else:
        with pytest.raises(BackendError, match="magvit_cuda_conv failed"):
            take_moments()


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "fp32"},
        {"precision": "tf32"},
        {"stride": (1, 2, 2)},
        {"kernel": (3, 1, 1), "pads_before": (2, 0, 0), "pads_after": (0, 0, 0)},
        {"pads_before": (1, 1, 1), "pads_after": (1, 1, 1)},
        {"pads_before": (2, 1, 0), "pads_after": (0, 1, 2)},
        {"sizes": (3, 16, 8)},
        {"sizes": (3, 32, 12)},
        {"in_channels": 72},
        {"out_channels": 64},
        {"is_padded": True},
    ],
)
def test_other_convs_are_cudnns(cuda: Cuda, change: dict[str, Any]) -> None:
    operators = operators_on(cuda)
    assert fits_own(operators, CAUSAL)
    image = replace(CAUSAL, sizes=(1, 32, 8), kernel=(1, 3, 3), pads_before=(0, 1, 1))
    assert fits_own(operators, image)
    assert not fits_own(operators, replace(CAUSAL, **change))


class Ones:
    """Operators whose conv writes `value`, as the stand-in for cuDNN writes ones."""

    def __init__(self, cuda: Cuda, value: float = 1.0) -> None:
        self._cuda = cuda
        self._value = value

    def conv_fits(self, *_: Any) -> bool:
        return True

    def conv(
        self, _source: Any, _weight: int, _frames: int, _addends: Any, output: Any, *rest: Any
    ) -> None:
        fill = np.frombuffer(self._cuda.blocks[output.data], np.float16)
        self._cuda.submit(rest[-1], lambda: fill.fill(self._value))


def open_convs(
    cuda: Cuda, folder: Path, operators: Any, engines: Sequence[int] = (3, 4)
) -> CudnnConvs:
    device, cudnn = open_device(), StandInCudnn(cuda)
    cudnn.engines = list(engines)
    cache = PlanCache(folder / "engines", device.name, "91900")
    return CudnnConvs(device, cudnn, operators, cache)


def times(own: float) -> list[float]:
    """Of engines 3 and 4 and our conv with implied padding, and of 3 and 4 with a border."""
    return milliseconds((3, 30), (2, 20), (own / 10, own), (2.2, 22), (2.5, 25))


@pytest.mark.parametrize(("own", "is_taken"), [(15, True), (20.9, True), (21.1, False)])
def test_ours_is_taken_unless_it_is_more_than_a_twentieth_slower(
    cuda: Cuda, tmp_path: Path, own: float, is_taken: bool
) -> None:
    convs = open_convs(cuda, tmp_path, Ones(cuda))
    cuda.milliseconds = times(own)
    plan = convs.plan(CAUSAL)
    assert plan.is_own == is_taken
    assert plan.padding == "implied"
    convs.close()
    # Another process needs no times.
    again = open_convs(cuda, tmp_path, Ones(cuda))
    assert again.plan(CAUSAL) == plan
    again.close()


def test_ours_is_not_taken_where_no_engine_confirms_it(
    cuda: Cuda, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    convs = open_convs(cuda, tmp_path, Ones(cuda, value=1.1))
    cuda.milliseconds = times(15)
    assert convs.plan(CAUSAL).engine == 4
    assert "our own kernel computes something else than cuDNN's engine 4, 3" in caplog.text
    convs.close()


def test_ours_refuses_no_engine_of_cudnn(cuda: Cuda, tmp_path: Path) -> None:
    convs = open_convs(cuda, tmp_path, Ones(cuda, value=1.1), engines=[3])
    cuda.milliseconds = milliseconds((2, 20), (1.5, 15), (2.2, 22))
    plan = convs.plan(CAUSAL)
    assert (plan.engine, plan.padding) == (3, "implied")
    convs.close()


def test_ours_loses_where_it_fails(
    cuda: Cuda, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise BackendError("magvit_cuda_conv failed", found="operation not supported")

    monkeypatch.setattr(Ones, "conv", fail)
    convs = open_convs(cuda, tmp_path, Ones(cuda))
    # The event before the launch asks for no time.
    cuda.milliseconds = milliseconds((3, 30), (2, 20), (2.2, 22), (2.5, 25))
    assert convs.plan(CAUSAL).engine == 4
    assert "our own conv failed: magvit_cuda_conv failed" in caplog.text
    convs.close()


def test_a_kept_plan_of_ours_that_does_not_run_here_is_timed_again(
    cuda: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convs = open_convs(cuda, tmp_path, Ones(cuda))
    cuda.milliseconds = times(15)
    assert convs.plan(CAUSAL).is_own
    convs.close()
    monkeypatch.setattr(Ones, "conv_fits", lambda *_: False)
    convs = open_convs(cuda, tmp_path, Ones(cuda))
    cuda.milliseconds = milliseconds((3, 30), (2, 20), (2.2, 22), (2.5, 25))
    assert convs.plan(CAUSAL).engine == 4
    convs.close()


def test_ours_runs_as_its_plan_says(cuda: Cuda) -> None:
    """The timed conv is the conv: by the stand-in's loops, against NumPy's."""
    random = np.random.default_rng(0)
    image = random.standard_normal((1, *SIZES, 64)).astype(np.float16)
    weight = (random.standard_normal((128, 3, 3, 3, 64)) / 40).astype(np.float16)
    output = np.zeros((1, *SIZES, 128), np.float16)
    arrays = {"image": image, "weight": weight, "output": output}
    aligned = {name: _aligned(array) for name, array in arrays.items()}
    conv = own_convs.OwnConv(operators_on(cuda), CAUSAL, 0)
    assert (conv.build(), conv.engine, conv.workspace) == (conv, OWN_ENGINE, 0)
    conv.execute(None, {name: array.ctypes.data for name, array in aligned.items()}, 0)
    from runtime.stand_in_cudnn import conv as plain

    padded = np.pad(image.astype(np.float32), [(0, 0), (2, 0), (1, 1), (1, 1), (0, 0)])
    expected = plain(padded, weight.astype(np.float32), (1, 1, 1))
    np.testing.assert_allclose(aligned["output"], expected, atol=2e-3 * np.abs(expected).max())


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy at an address that is a multiple of 256."""
    memory = np.empty(array.nbytes + 256, np.uint8)
    start = -memory.ctypes.data % 256
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[:] = array
    return copy
