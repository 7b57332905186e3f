"""The native backend's CUDA side on a stand-in for the GPU: NumPy's convs, our kernels on the CPU.

Without a GPU, the kernels' speed and cuDNN's own work stay untested.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from runtime import stand_in_gpu
from runtime.backends.native.cuda.on_stand_in import (
    PaddingOf,
    border,
    implied,
    mixed,
    open_program,
)
from runtime.backends.native.cuda.small_programs import reference
from runtime.stand_in_gpu import Cuda
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_runtime.backends.native.arena import plan_arena
from magvit_runtime.backends.native.cpu.executor import CpuExecutor
from magvit_runtime.backends.native.cuda.conv_plans import (
    ConvGeometry,
    ConvPlan,
)
from magvit_runtime.backends.native.cuda.executor import open_cuda_executor
from magvit_runtime.backends.native.cuda.schedule import Workspaces, plan_schedule
from magvit_runtime.backends.native.cuda.session import CudaSession
from magvit_runtime.backends.native.cuda.steps import Apply, Convolution, Statistics
from magvit_runtime.backends.native.cuda.worker import SHAPES_KEPT
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.native.program import (
    Conv,
    Input,
    LookupFreeQuantization,
    Normalization,
    Output,
    PixelNormalization,
    Program,
)
from magvit_runtime.bundle.onnx_file import read_graph
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.hardware.gpus import list_gpus
from magvit_runtime.native_libraries.cuda_operators import load_cuda_operators
from magvit_runtime.native_libraries.lookup import LIBRARY_DIR_VARIABLE

OUTPUTS = ["ids", "latents"]
NO_WORKSPACES = Workspaces(lambda *_: 0, lambda _: 0, lambda _: 0)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return stand_in_gpu.install(monkeypatch)[0]


def clips_of(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def graph_of(bundle: Path, precision: str = "fp32") -> Path:
    return bundle / f"encode.{precision}.onnx"


def onnx_latents(graph: Path, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(["latents"], {session.get_inputs()[0].name: frames})[0]


@pytest.fixture(scope="module")
def half_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`TINY` in half precision, and in half precision with a residual stream in float32."""
    path = tmp_path_factory.mktemp("half")
    model = find_model("trajectory-small")
    for name, residual in (("half", None), ("islands", "fp32")):
        export_model(
            model,
            path / name,
            weights="seeded",
            roles=["encode"],
            config=TINY,
            precision="fp16",
            residual=residual,
        )
    return path


# Against ONNX Runtime.


@pytest.mark.parametrize("padding_of", [implied, border, mixed])
@pytest.mark.parametrize("shape", [(2, 5, 16, 24), (1, 1, 9, 7), (3, 4, 17, 15)])
def test_latents_are_those_of_onnx_runtime(
    cuda: Cuda, tiny_bundle: Path, padding_of: PaddingOf, shape: tuple[int, ...]
) -> None:
    frames = clips_of(*shape)
    expected = onnx_latents(graph_of(tiny_bundle), frames)
    program = lower(read_graph(graph_of(tiny_bundle)))
    with_encoder = open_program(cuda, program, padding_of=padding_of)
    for _ in range(3):  # Plain, captured, replayed.
        ids, latents = with_encoder.run({"frames": frames}, OUTPUTS)
        np.testing.assert_allclose(latents, expected, atol=2e-4)
        powers = 1 << np.arange(18).reshape(18, 1, 1, 1)
        np.testing.assert_array_equal(ids, ((latents > 0) * powers).sum(1))
    assert "replay" in cuda.calls
    with_encoder.close()


@pytest.mark.parametrize("name", ["half", "islands"])
def test_half_precision_stays_within_the_parity_rule(
    cuda: Cuda, tiny_bundle: Path, half_bundle: Path, name: str
) -> None:
    frames = clips_of(2, 5, 16, 24)
    expected = onnx_latents(graph_of(tiny_bundle), frames)
    program = lower(read_graph(graph_of(half_bundle / name, "fp16")))
    encoder = open_program(cuda, program, "fp16", border)
    (latents,) = encoder.run({"frames": frames}, ["latents"])
    error = float(np.sqrt(np.mean((latents - expected) ** 2)) / expected.std())
    assert 1e-5 < error < 8e-3
    encoder.close()


def test_images(cuda: Cuda, tmp_path: Path) -> None:
    config = msgspec.structs.replace(TINY, dims=2)
    export_model(
        find_model("open-magvit2-image-128"),
        tmp_path / "bundle",
        weights="seeded",
        roles=["encode"],
        config=config,
    )
    frames = clips_of(2, 17, 24)
    encoder = open_program(cuda, lower(read_graph(graph_of(tmp_path / "bundle"))))
    ids, latents = encoder.run({"frames": frames}, OUTPUTS)
    expected = onnx_latents(graph_of(tmp_path / "bundle"), frames)
    np.testing.assert_allclose(latents, expected, atol=2e-4)
    assert ids.shape == (2, *expected.shape[2:])
    encoder.close()


# Against a direct reading of random programs, in float64.


@st.composite
def programs(draw: st.DrawFn) -> tuple[Program, NDArray[np.uint8]]:
    """Programs of every form that the schedule tells apart, and frames for them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = {"pixels": tuple(draw(st.integers(2, 6)) for _ in range(3))}
    channels = {"pixels": 3}
    convs: list[Conv] = []
    for i in range(draw(st.integers(1, 6))):
        source = "pixels"
        if i:
            source = draw(st.sampled_from([f"y{i - 1}", *list(sizes)[1:]]))
        kernel = tuple(draw(st.sampled_from([1, 2, 3])) for _ in range(3))
        before = tuple(draw(st.integers(0, 2)) for _ in range(3))
        after = tuple(
            max(draw(st.integers(0, 2)), k - n - b)
            for k, n, b in zip(kernel, sizes[source], before, strict=True)
        )
        normalization = None
        if i and channels[source] % 4 == 0 and draw(st.booleans()):
            normalization = Normalization(
                groups=draw(st.sampled_from([1, 2, 4])),
                epsilon=1e-6,
                weight=random.standard_normal(channels[source]).astype(np.float32),
                bias=random.standard_normal(channels[source]).astype(np.float32),
                activation=draw(st.sampled_from(["none", "silu"])),
            )
        outputs = draw(st.sampled_from([4, 8, 12, 18]))
        shape = (outputs, channels[source], *kernel)
        weight = random.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
        step = Conv(
            name=f"conv{i}",
            input=source,
            output=f"y{i}",
            weight=weight.astype(np.float32),
            bias=random.standard_normal(outputs).astype(np.float32)
            if draw(st.booleans())
            else None,
            stride=tuple(draw(st.sampled_from([1, 1, 2])) for _ in range(3)),
            pads_before=before,
            pads_after=after,
            normalization=normalization,
            residual=None,
            output_type="float32",
        )
        size = step.output_sizes(sizes[source])
        alike = [
            name
            for name in sizes
            if name != "pixels" and (sizes[name], channels[name]) == (size, outputs)
        ]
        if alike and draw(st.booleans()):
            step = replace(step, residual=draw(st.sampled_from(alike)))
        convs.append(step)
        sizes[step.output], channels[step.output] = size, outputs
    program = Program(
        inputs=(Input("frames", "uint8", "NTHWC", 3),),
        steps=(
            PixelNormalization("frames", "pixels", 127.5, -1.0),
            *convs,
            LookupFreeQuantization(convs[-1].output, "codes"),
        ),
        outputs=(
            Output("ids", "codes", "NTHW", "int32"),
            Output("latents", convs[-1].output, "NCTHW", "float32"),
        ),
    )
    return program, clips_of(draw(st.integers(1, 2)), *sizes["pixels"])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(programs(), st.sampled_from([implied, border, mixed]))
def test_any_program_computes_what_it_says(
    cuda: Cuda, drawn: tuple[Program, NDArray[np.uint8]], padding_of: PaddingOf
) -> None:
    program, frames = drawn
    encoder = open_program(cuda, program, padding_of=padding_of)
    (latents,) = encoder.run({"frames": frames}, ["latents"])
    expected = np.moveaxis(reference(program, frames), -1, 1)
    np.testing.assert_allclose(latents, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    encoder.close()


# The schedule.


def full_schedule(program: Program, padding_of: PaddingOf) -> Any:
    def plan_of(geometry: ConvGeometry) -> ConvPlan:
        return ConvPlan(padding_of(geometry), 0, {}, 0, 1.0)

    shapes = program.shapes({"frames": (17, 128, 128, 3)})
    return plan_schedule(program, 1, shapes, "fp32", plan_of, NO_WORKSPACES)


def test_every_map_is_read_and_written_as_few_times_as_can_be(small_bundle: Path) -> None:
    program = lower(read_graph(graph_of(small_bundle)))
    steps = full_schedule(program, border).steps
    normalized = [step for step in program.convs if step.normalization]
    plain = [step for step in program.convs if not step.normalization]
    assert sum(isinstance(step, Convolution) for step in steps) == len(program.convs)
    # One statistics pass and one apply pass per normalisation, sums included.
    assert sum(isinstance(step, Statistics) for step in steps) == len(normalized)
    # And one pass per downsample, and one for the bias of the latents.
    strided = [step for step in plain if step.stride != (1, 1, 1)]
    applies = [step for step in steps if isinstance(step, Apply)]
    assert len(applies) == len(normalized) + len(strided) + 1


@pytest.mark.parametrize("padding_of", [implied, border])
def test_memory_is_near_what_is_live_at_once(small_bundle: Path, padding_of: PaddingOf) -> None:
    schedule = full_schedule(lower(read_graph(graph_of(small_bundle))), padding_of)
    live = [
        sum(b.size for b in schedule.buffers.values() if b.first <= i <= b.last)
        for i in range(len(schedule.steps))
    ]
    assert plan_arena(schedule.buffers).size < 1.1 * max(live)


# Without a GPU.


@pytest.mark.skipif(bool(list_gpus()), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(tiny_bundle: Path) -> None:
    pytest.importorskip("cuda.bindings", reason="pip install cuda-bindings")
    with pytest.raises(BackendError, match="a GPU session needs an NVIDIA GPU and its driver"):
        CudaSession(graph_of(tiny_bundle), precision="fp32", reason="")


# The encoder as an object.


def test_shapes_come_and_go_and_all_memory_is_given_back(cuda: Cuda, tiny_bundle: Path) -> None:
    program = lower(read_graph(graph_of(tiny_bundle)))
    encoder = open_program(cuda, program)
    first = clips_of(1, 3, 8, 8)
    expected = encoder.run({"frames": first}, ["latents"])[0]
    for batch in range(2, SHAPES_KEPT + 3):
        encoder.run({"frames": clips_of(batch, 3, 8, 8)}, OUTPUTS)
    np.testing.assert_array_equal(encoder.run({"frames": first}, ["latents"])[0], expected)
    encoder.close()
    encoder.close()
    assert not cuda.blocks
    assert not any(cuda.live.values())
    with pytest.raises(BackendError, match="closed"):
        encoder.run({"frames": first}, OUTPUTS)


def test_a_shape_that_was_seen_allocates_nothing(cuda: Cuda, tiny_bundle: Path) -> None:
    encoder = open_program(cuda, lower(read_graph(graph_of(tiny_bundle))))
    frames = clips_of(2, 3, 8, 8)
    encoder.run({"frames": frames}, OUTPUTS)
    before = cuda.allocations
    for seed in range(3):
        encoder.run({"frames": clips_of(2, 3, 8, 8, seed=seed)}, OUTPUTS)
    assert cuda.allocations == before
    encoder.close()


def test_threads_share_the_workers(cuda: Cuda, tiny_bundle: Path) -> None:
    encoder = open_program(cuda, lower(read_graph(graph_of(tiny_bundle))), workers=2)
    batches = [clips_of(1, 3, 8, 8, seed=seed) for seed in range(8)]

    def latents_of(batch: NDArray[np.uint8]) -> NDArray[Any]:
        return encoder.run({"frames": batch}, ["latents"])[0]

    expected = [latents_of(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(latents_of, batches))
    np.testing.assert_array_equal(found, expected)
    encoder.close()


def test_without_graphs_it_runs_all_the_same_and_says_so(cuda: Cuda, tiny_bundle: Path) -> None:
    encoder = open_program(cuda, lower(read_graph(graph_of(tiny_bundle))))
    cuda.capture_fails = True
    frames = clips_of(1, 3, 8, 8)
    first = encoder.run({"frames": frames}, ["latents"])[0]
    np.testing.assert_array_equal(encoder.run({"frames": frames}, ["latents"])[0], first)
    assert encoder.launches.startswith("plain launches: capture into a CUDA graph failed")
    encoder.close()


def test_too_little_memory_is_an_error_that_leaks_nothing(cuda: Cuda, tiny_bundle: Path) -> None:
    encoder = open_program(cuda, lower(read_graph(graph_of(tiny_bundle))))
    blocks = len(cuda.blocks)
    cuda.memory = 1000
    with pytest.raises(BackendError, match="cudaErrorMemoryAllocation"):
        encoder.run({"frames": clips_of(1, 3, 8, 8)}, OUTPUTS)
    assert len(cuda.blocks) == blocks
    encoder.close()


@pytest.mark.parametrize(
    "frames", [np.zeros((1, 3, 8, 8, 3)), clips_of(3, 8, 8), clips_of(1, 3, 8, 8)[..., :1]]
)
def test_what_is_no_batch_is_refused(
    cuda: Cuda, tiny_bundle: Path, frames: NDArray[np.uint8]
) -> None:
    encoder = open_program(cuda, lower(read_graph(graph_of(tiny_bundle))))
    with pytest.raises(InputError, match=r"expected frames uint8 \[N, T, H, W, 3\]"):
        encoder.run({"frames": frames}, OUTPUTS)
    encoder.close()


def test_a_missing_library_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIBRARY_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(BackendError, match=r"libmagvit_cuda\.so\) are missing.*nvcc"):
        load_cuda_operators()


def test_ids_must_be_an_output_and_each_output_once(cuda: Cuda, tiny_bundle: Path) -> None:
    program = lower(read_graph(graph_of(tiny_bundle)))
    for outputs in (program.outputs[1:], program.outputs * 2):
        with pytest.raises(BackendError, match="can't give these outputs on a GPU: found"):
            open_program(cuda, replace(program, outputs=outputs))
    assert not cuda.blocks


def test_any_map_can_be_an_output(cuda: Cuda, tiny_bundle: Path) -> None:
    program = lower(read_graph(graph_of(tiny_bundle)))
    maps = [Output(conv.output, conv.output, "NCTHW", "float32") for conv in program.convs[:-1]]
    program = replace(program, outputs=(*program.outputs, *maps))
    frames, names = clips_of(2, 3, 8, 8), [output.name for output in program.outputs]
    encoder, on_cpu = open_program(cuda, program), CpuExecutor(program)
    for _ in range(2):
        found = encoder.run({"frames": frames}, names)
        expected = on_cpu.run({"frames": frames}, names)
        for one, wanted in zip(found[1:], expected[1:], strict=True):
            np.testing.assert_allclose(one, wanted, atol=1e-4)
    encoder.close()


def test_clips_that_are_too_small_are_refused(cuda: Cuda, tiny_bundle: Path) -> None:
    program = lower(read_graph(graph_of(tiny_bundle)))
    pixels, first, *others = program.steps
    first = replace(first, pads_before=(0, 0, 0), pads_after=(0, 0, 0))
    encoder = open_program(cuda, replace(program, steps=(pixels, first, *others)))
    with pytest.raises(BackendError, match=r"clips of this size: found .* would make \[-1"):
        encoder.run({"frames": clips_of(1, 1, 2, 2)}, OUTPUTS)
    encoder.close()


def test_other_precisions_are_refused(tiny_bundle: Path) -> None:
    program = lower(read_graph(graph_of(tiny_bundle)))
    with pytest.raises(BackendError, match="found bf16, expected fp16 or tf32 or fp32"):
        open_cuda_executor(program, "bf16", None)
    with pytest.raises(BackendError, match="found a float32 graph, expected fp16"):
        open_cuda_executor(program, "fp16", None)
