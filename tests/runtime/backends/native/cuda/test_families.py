"""Small models of every family and role on the stand-in GPU, beside the same graph on the CPU.

The CPU's results are held against the reference implementation's in tests/parity.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from runtime import stand_in_gpu
from runtime.backends.native.cuda.on_stand_in import PaddingOf, border, implied, open_program
from runtime.stand_in_arrays import DlpackArray, host_copy
from runtime.stand_in_gpu import Cuda
from seeded_checkpoints import TINY, golden

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_runtime.agreement.limits import PIXEL_LIMITS
from magvit_runtime.agreement.signs import compare_latents
from magvit_runtime.backends.native.attention import Attention
from magvit_runtime.backends.native.cpu.executor import CpuExecutor
from magvit_runtime.backends.native.cuda.conv_plans import (
    ConvGeometry,
    ConvPlan,
    ConvPrecision,
)
from magvit_runtime.backends.native.cuda.schedule import Workspaces, plan_schedule
from magvit_runtime.backends.native.cuda.steps import (
    Apply,
    Attend,
    Codes,
    Repeat,
    Rows,
    Statistics,
    ToBytes,
    ToSpace,
    Vectors,
)
from magvit_runtime.backends.native.decoder_steps import AdaptiveNormalization, DepthToSpace
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.native.program import ClipShape, Program
from magvit_runtime.bundle.onnx_file import read_graph
from magvit_runtime.errors import BackendError, InputError

Arrays = list[NDArray[Any]]

# Blocks of 2x2x2 and of 1x2x2 positions.
THREE_LEVELS = msgspec.structs.replace(TINY, ch_mult=(1, 2, 2))
MODELS: dict[str, tuple[str, TokenizerConfig]] = {
    "video": ("trajectory-small", THREE_LEVELS),
    "image": ("open-magvit2-image-128", msgspec.structs.replace(TINY, dims=2)),
}
NAMES = (*MODELS, "ibq")
# Of ids, tokens [N, t, h, w] or [N, h, w]; and of a codebook, or 2^18.
GRIDS = {"video": (2, 2, 2, 3), "image": (2, 3, 5), "ibq": (2, 3, 5)}
VOCABULARY = {"video": 2**18, "image": 2**18, "ibq": 6000}
FRAMES = {"video": (2, 3, 9, 12, 3), "image": (2, 9, 14, 3), "ibq": (2, 10, 14, 3)}


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return stand_in_gpu.install(monkeypatch)[0]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, tiny_ibq_bundle: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    for name, (model, config) in MODELS.items():
        for precision in ("fp32", "fp16"):
            entry, path = find_model(model), folder / name
            export_model(entry, path, weights="seeded", config=config, precision=precision)
    return {name: folder / name for name in MODELS} | {"ibq": tiny_ibq_bundle}


def program_of(bundles: dict[str, Path], name: str, role: str, precision: ConvPrecision) -> Program:
    graph = "fp16" if precision == "fp16" else "fp32"
    return lower(read_graph(bundles[name] / f"{role}.{graph}.onnx"))


def input_of(name: str, role: str, seed: int = 0) -> NDArray[Any]:
    random = np.random.default_rng(seed)
    if role == "decode":
        return random.integers(0, VOCABULARY[name], GRIDS[name], np.int32)
    return random.integers(0, 256, FRAMES[name], np.uint8)


def on_cpu(bundles: dict[str, Path], name: str, role: str, given: NDArray[Any]) -> Arrays:
    """All outputs of the float32 graph by the native backend on the CPU."""
    program = program_of(bundles, name, role, "fp32")
    executor = CpuExecutor(program, threads=2)
    (source,) = program.inputs
    found = executor.run({source.name: given}, [output.name for output in program.outputs])
    executor.close()
    return found


@pytest.mark.parametrize("padding_of", [implied, border])
@pytest.mark.parametrize("precision", get_args(ConvPrecision))
@pytest.mark.parametrize("name", NAMES)
def test_frames_are_those_of_the_cpu(
    cuda: Cuda, bundles: dict[str, Path], name: str, precision: ConvPrecision, padding_of: PaddingOf
) -> None:
    decoder = open_program(
        cuda, program_of(bundles, name, "decode", precision), precision, padding_of
    )
    for seed in range(3):  # Plain, captured, replayed.
        ids = input_of(name, "decode", seed)
        (expected,) = on_cpu(bundles, name, "decode", ids)
        (frames,) = decoder.run({"ids": ids}, ["frames"])
        assert (frames.dtype, frames.shape) == (np.uint8, expected.shape)
        errors = np.abs(frames.astype(int) - expected)
        # The stand-in's TF32 convs are float32.
        limits = PIXEL_LIMITS["fp16" if precision == "fp16" else "fp32"]
        assert errors.max() <= limits.max
        assert np.sqrt(np.mean(errors**2)) <= limits.rms
    assert "replay" in cuda.calls
    decoder.close()
    assert not cuda.blocks


@pytest.mark.parametrize("padding_of", [implied, border])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_of_the_cpu(
    cuda: Cuda, bundles: dict[str, Path], name: str, precision: ConvPrecision, padding_of: PaddingOf
) -> None:
    frames = input_of(name, "encode")
    program = program_of(bundles, name, "encode", precision)
    names = [output.name for output in program.outputs]
    expected = dict(zip(names, on_cpu(bundles, name, "encode", frames), strict=True))
    encoder = open_program(cuda, program, precision, padding_of)
    for _ in range(3):
        arrays = encoder.run({"frames": frames}, names)
        found = dict(zip(names, arrays, strict=True))
        assert [a.dtype for a in arrays] == [expected[one].dtype for one in names]
        error = float(np.sqrt(np.mean((found["latents"] - expected["latents"]) ** 2)))
        error /= expected["latents"].std()
        assert error < (8e-3 if precision == "fp16" else 5e-5)
        if name == "ibq":
            off = np.abs(found["margins"] - expected["margins"])
            clear = expected["margins"] > 10 * np.sqrt(np.mean(off**2))
            np.testing.assert_array_equal(found["ids"][clear], expected["ids"][clear])
            assert off.max() < (5e-2 if precision == "fp16" else 1e-3)
        else:
            agreement = compare_latents(found["latents"], expected["latents"], found["ids"])
            assert agreement.passes(precision)
    encoder.close()
    assert not cuda.blocks


@pytest.mark.slow
@pytest.mark.parametrize("case", ["t1_64x64", "t5_64x64"])
def test_frames_are_those_of_the_reference(cuda: Cuda, small_bundle: Path, case: str) -> None:
    values = golden("video_small")
    decoder = open_program(cuda, lower(read_graph(small_bundle / "decode.fp32.onnx")))
    (frames,) = decoder.run({"ids": values[f"{case}.ids_raw"].astype(np.int32)}, ["frames"])
    unit = np.clip((np.moveaxis(values[f"{case}.rec_raw"].astype(np.float64), 1, -1) + 1) / 2, 0, 1)
    errors = np.abs(frames - np.floor(unit * 255 + 0.5))
    assert errors.max() <= 1
    assert np.mean(errors == 0) >= 0.99
    decoder.close()


# Sizes, batches and devices.


@pytest.mark.parametrize("grid", [(1, 1, 1, 1), (3, 1, 2, 2), (1, 3, 1, 2)])
def test_grids_of_any_size(cuda: Cuda, bundles: dict[str, Path], grid: tuple[int, ...]) -> None:
    """One position has no spread; one frame gives one."""
    ids = np.random.default_rng(1).integers(0, 2**18, grid, np.int32)
    decoder = open_program(cuda, program_of(bundles, "video", "decode", "fp32"))
    (frames,) = decoder.run({"ids": ids}, ["frames"])
    (expected,) = on_cpu(bundles, "video", "decode", ids)
    assert (
        frames.shape == expected.shape == (grid[0], 2 * grid[1] - 1, *(4 * n for n in grid[2:]), 3)
    )
    assert np.abs(frames.astype(int) - expected).max() <= 1
    decoder.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_smaller_batch_is_not_mixed_with_the_one_before(
    cuda: Cuda, bundles: dict[str, Path], name: str
) -> None:
    decoder = open_program(cuda, program_of(bundles, name, "decode", "fp32"))
    ids = input_of(name, "decode", 4)
    alone = open_program(cuda, program_of(bundles, name, "decode", "fp32"))
    (expected,) = alone.run({"ids": ids[:1]}, ["frames"])
    decoder.warm_up(ids.shape)
    decoder.run({"ids": input_of(name, "decode", 5)}, ["frames"])
    np.testing.assert_array_equal(decoder.run({"ids": ids[:1]}, ["frames"])[0], expected)
    for executor in (decoder, alone):
        executor.close()


def test_ids_and_frames_stay_on_the_device(cuda: Cuda, bundles: dict[str, Path]) -> None:
    decoder = open_program(cuda, program_of(bundles, "ibq", "decode", "fp32"), workers=2)
    ids = input_of("ibq", "decode")
    decoder.warm_up(ids.shape)
    (expected,) = decoder.run({"ids": ids}, ["frames"])
    on_device, before = DlpackArray(cuda, ids), cuda.allocations
    (frames,) = decoder.run_device({"ids": on_device}, ["frames"])
    assert cuda.allocations == before + 1  # The result's.
    np.testing.assert_array_equal(host_copy(cuda, frames), expected)
    decoder.close()


# Ids that are none.


@pytest.mark.parametrize("row", [-1, 6000])
def test_an_id_that_is_no_row(cuda: Cuda, bundles: dict[str, Path], row: int) -> None:
    """From the host it is refused; on the GPU nobody looks, and its image alone is black."""
    decoder = open_program(cuda, program_of(bundles, "ibq", "decode", "fp32"))
    ids = input_of("ibq", "decode")
    (expected,) = decoder.run({"ids": ids}, ["frames"])
    ids[1, 2, 3] = row
    with pytest.raises(BackendError, match="an id is no row of the codebook"):
        decoder.run({"ids": ids}, ["frames"])
    (found,) = decoder.run_device({"ids": DlpackArray(cuda, ids)}, ["frames"])
    frames = host_copy(cuda, found)
    np.testing.assert_array_equal(frames[0], expected[0])
    assert not frames[1].any()
    decoder.close()


@pytest.mark.parametrize("ids", [np.zeros((2, 3, 5), np.int64), np.zeros((3, 5), np.int32)])
def test_what_are_no_ids_is_refused(
    cuda: Cuda, bundles: dict[str, Path], ids: NDArray[Any]
) -> None:
    decoder = open_program(cuda, program_of(bundles, "ibq", "decode", "fp32"))
    with pytest.raises(InputError, match=r"expected ids int32 \[N, H, W\]"):
        decoder.run({"ids": ids}, ["frames"])
    with pytest.raises(InputError, match=r"expected ids int32 \[N, H, W\]"):
        decoder.warm_up((1, 2, 3, 4))
    decoder.close()


# What is launched.


def launched(program: Program, clip: ClipShape, padding_of: PaddingOf) -> Counter[type]:
    """How often each kind of step runs."""

    def plan_of(geometry: ConvGeometry) -> ConvPlan:
        return ConvPlan(padding_of(geometry), 0, {}, 0, 1.0)

    shapes = program.shapes({program.inputs[0].name: clip})
    workspaces = Workspaces(lambda *_: 0, lambda _: 0, lambda _: 0)
    steps = plan_schedule(program, 1, shapes, "fp16", plan_of, workspaces).steps
    return Counter(type(step) for step in steps)


@pytest.mark.parametrize("padding_of", [implied, border])
def test_a_video_decoders_maps_are_read_and_written_as_few_times_as_can_be(
    bundles: dict[str, Path], padding_of: PaddingOf
) -> None:
    program = program_of(bundles, "video", "decode", "fp16")
    count = launched(program, (5, 16, 16, 1), padding_of)
    normalized = sum(conv.normalization is not None for conv in program.convs)
    adaptive = sum(isinstance(step, AdaptiveNormalization) for step in program.steps)
    shortcuts = sum(conv.kernel == (1, 1, 1) for conv in program.convs)
    upsamplers = sum(isinstance(step, DepthToSpace) for step in program.steps)
    assert (adaptive, upsamplers, shortcuts) == (3, 2, 1)
    # Two passes a norm, adaptive or not; one more puts what an upsampler reads into a border. The
    # map that a shortcut reads lies as that conv wants it.
    assert count[Statistics] == normalized + adaptive
    assert count[Apply] == normalized + adaptive + upsamplers
    assert (count[Vectors], count[ToSpace], count[ToBytes]) == (adaptive, upsamplers, 1)
    assert count[Codes] == 2  # For the first conv, and for the adaptive norms.


def test_queries_keys_and_values_share_what_they_read(bundles: dict[str, Path]) -> None:
    program = program_of(bundles, "ibq", "decode", "fp16")
    count = launched(program, (1, 16, 16, 1), implied)
    norms = {(c.input, id(c.normalization)) for c in program.convs if c.normalization is not None}
    attention = sum(isinstance(step, Attention) for step in program.steps)
    assert count[Attend] == attention == 3
    assert count[Statistics] == len(norms)
    # Besides those of norms: the bias of what the first 3x3 conv reads, that of what a shortcut is
    # added to, and the sum before the repetition.
    assert count[Apply] == len(norms) + 3
    assert (count[Rows], count[Repeat]) == (1, 1)
