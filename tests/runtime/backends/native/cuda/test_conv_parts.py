"""Convs in parts: which taps they have, when they are chosen, and that they compute the same."""

from __future__ import annotations

import itertools
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from runtime import stand_in_gpu
from runtime.backends.native.cuda.on_stand_in import (
    PaddingOf,
    border,
    implied,
    mixed,
    open_program,
    parts_are_faster,
    whole_is_faster,
)
from runtime.stand_in_cudnn import NumpyConvs
from runtime.stand_in_gpu import Cuda
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_runtime.backends.native.cuda.conv_parts import ConvPart, plan_conv, split
from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.native.program import Program
from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.onnx_file import read_graph
from magvit_runtime.errors import BackendError

CAUSAL = ConvGeometry(
    precision="fp16",
    batch=2,
    sizes=(17, 32, 48),
    in_channels=128,
    out_channels=256,
    kernel=(3, 3, 3),
    stride=(1, 1, 1),
    pads_before=(2, 1, 1),
    pads_after=(0, 1, 1),
)
DOWNSAMPLE = replace(CAUSAL, stride=(2, 2, 2))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return stand_in_gpu.install(monkeypatch)[0]


# The parts.


def test_the_first_frames_lose_the_taps_that_meet_zeros() -> None:
    full, first, second = split(CAUSAL, "implied")
    assert (full.first_tap, full.first_input, full.first_output) == (0, 0, 2)
    assert (full.geometry.sizes, full.geometry.output_sizes) == ((17, 32, 48), (15, 32, 48))
    assert (first.first_tap, first.first_input, first.first_output) == (2, 0, 0)
    assert (first.geometry.kernel, first.geometry.sizes) == ((1, 3, 3), (1, 32, 48))
    assert (second.first_tap, second.first_input, second.first_output) == (1, 0, 1)
    assert (second.geometry.kernel, second.geometry.sizes) == ((2, 3, 3), (2, 32, 48))
    for part in (full, first, second):
        assert part.geometry.pads_before == (0, 1, 1)
        assert part.geometry.clip_frames == (17, 17)
        assert part.geometry.paddings == ("implied",)


def test_a_border_is_among_the_sizes_of_parts() -> None:
    for part in split(DOWNSAMPLE, "border"):
        assert part.geometry.sizes[1:] == (34, 50)
        assert part.geometry.padded_sizes == part.geometry.sizes
        assert part.geometry.output_sizes[1:] == DOWNSAMPLE.output_sizes[1:]


@pytest.mark.parametrize("frames", range(1, 8))
@pytest.mark.parametrize(("taps", "zeros", "stride"), [(3, 2, 1), (3, 2, 2), (4, 3, 2), (2, 1, 3)])
def test_parts_read_each_tap_that_meets_a_frame_once(
    frames: int, taps: int, zeros: int, stride: int
) -> None:
    geometry = replace(
        CAUSAL,
        sizes=(frames, 32, 48),
        kernel=(taps, 3, 3),
        stride=(stride, 1, 1),
        pads_before=(zeros, 1, 1),
    )
    expected = {
        (t, k, t * stride + k - zeros)
        for t, k in itertools.product(range(geometry.output_sizes[0]), range(taps))
        if t * stride + k >= zeros
    }
    found = [
        (part.first_output + t, part.first_tap + k, part.first_input + t * step + k)
        for part in split(geometry, "implied")
        for step in [part.geometry.stride[0]]
        for t, k in itertools.product(
            range(part.geometry.output_sizes[0]), range(part.geometry.kernel[0])
        )
    ]
    assert len(found) == len(set(found))
    assert set(found) == expected


@pytest.mark.parametrize(
    "facts",
    [
        {"kernel": (1, 3, 3), "pads_before": (0, 1, 1)},
        {"pads_before": (0, 1, 1)},
        {"pads_before": (1, 1, 1), "pads_after": (1, 1, 1)},
        {"pads_before": (3, 1, 1)},  # A frame would have no part.
    ],
)
def test_other_convs_have_no_parts(facts: dict[str, tuple[int, int, int]]) -> None:
    assert split(replace(CAUSAL, **facts), "implied") == ()


# The choice.


def chosen(
    geometry: ConvGeometry, *times: float | None, padding_of: PaddingOf = implied
) -> tuple[tuple[ConvPart, ...], int]:
    """The parts chosen if the plans take these times, and how many plans were asked for."""
    left = list(times)

    def plan_of(asked: ConvGeometry) -> ConvPlan:
        time = left.pop(0)
        if time is None:
            raise BackendError(f"no plan for {asked.key}")
        return ConvPlan(padding_of(asked), 0, {}, 100 * len(left), time)

    return plan_conv(geometry, plan_of).parts, len(times) - len(left)


def test_the_faster_way_is_chosen() -> None:
    # Two further launches cost 2 us each.
    assert chosen(CAUSAL, 100.0, 80.0, 5.0, 10.0) == (split(CAUSAL, "implied"), 4)
    assert chosen(CAUSAL, 100.0, 80.0, 6.0, 10.0) == ((ConvPart(CAUSAL),), 4)


def test_parts_that_cannot_win_are_not_planned() -> None:
    assert chosen(CAUSAL, 60.0, 1.0) == ((ConvPart(CAUSAL),), 1)  # 6 % of it are 3.5 us.
    assert chosen(CAUSAL, 100.0, 97.0, 1.0) == ((ConvPart(CAUSAL),), 2)


def test_one_frame_is_one_conv_without_time() -> None:
    image = replace(CAUSAL, sizes=(1, 32, 48))
    (part,), asked = chosen(image, 9.0, 3.0)
    assert (part.geometry.kernel, part.first_tap, asked) == ((1, 3, 3), 2, 2)


def test_a_part_without_a_plan_leaves_the_conv_whole(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen(CAUSAL, 100.0, 80.0, None)[0] == (ConvPart(CAUSAL),)
    assert f"{CAUSAL.key} runs as a whole: no plan for fp16 2x1x32x48" in caplog.text


def test_parts_share_a_workspace_and_a_border_without_time() -> None:
    def plan_of(geometry: ConvGeometry) -> ConvPlan:
        return ConvPlan(border(geometry), 0, {}, geometry.kernel[0], parts_are_faster(geometry))

    planned = plan_conv(CAUSAL, plan_of)
    assert (planned.before, planned.after, planned.workspace) == ((0, 1, 1), (0, 1, 1), 3)


def test_the_plan_of_a_part_is_kept_under_a_key_of_its_own() -> None:
    # Such keys are in files that were written before there were parts.
    assert CAUSAL.key == "fp16 2x17x32x48 128>256 kernel 3x3x3 stride 1x1x1 pads 2x1x1 0x1x1"
    keys = [part.geometry.key for part in split(CAUSAL, "implied")]
    assert keys[0] == (
        "fp16 2x17x32x48 128>256 kernel 3x3x3 stride 1x1x1 pads 0x1x1 0x1x1 clips 17>17"
    )
    assert len(set(keys)) == 3


# What they compute.


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Precision, Program]:
    precision: Precision = request.param
    folder = tmp_path_factory.mktemp("bundle")
    export_model(
        find_model("trajectory-small"),
        folder,
        weights="seeded",
        roles=["encode"],
        config=msgspec.structs.replace(TINY, ch_mult=(2, 1)),  # Halves the frames.
        precision=precision,
    )
    return precision, lower(read_graph(folder / f"encode.{precision}.onnx"))


@pytest.mark.parametrize("padding_of", [implied, border, mixed])
@pytest.mark.parametrize("shape", [(1, 5, 16, 16), (2, 9, 16, 24), (2, 1, 16, 16)])
def test_parts_compute_what_the_whole_does(
    cuda: Cuda,
    program: tuple[Precision, Program],
    padding_of: PaddingOf,
    shape: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    precision, encoder = program
    assert precision in {"fp16", "fp32"}
    enqueued: list[ConvGeometry] = []
    enqueue = NumpyConvs.enqueue

    def note(convs: NumpyConvs, geometry: ConvGeometry, *queue: int, **addresses: int) -> None:
        enqueued.append(geometry)
        enqueue(convs, geometry, *queue, **addresses)

    monkeypatch.setattr(NumpyConvs, "enqueue", note)
    frames = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    blocks = len(cuda.blocks)
    latents = []
    for time_of in (whole_is_faster, parts_are_faster):
        enqueued.clear()
        executor = open_program(cuda, encoder, precision, padding_of, time_of=time_of)
        for _ in range(3):  # Plain, captured, replayed.
            found = executor.run({"frames": frames}, ["latents"])[0]
        latents.append(found)
        executor.close()
        strides = {g.stride[0] for g in enqueued if g.clip_frames is not None}
        # The parts of downsamples have their stride only where they have full frames.
        expected = {1} if shape[1] == 1 else {1, 2}
        assert strides == (set() if time_of is whole_is_faster else expected)
    assert len(cuda.blocks) == blocks
    # NumPy sums taps in one order in both ways, but for zeros.
    np.testing.assert_allclose(latents[1], latents[0], rtol=1e-6, atol=1e-6)
