"""The measurements of gpu-check, here on the CPU and on a stand-in for the GPU."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

pytestmark = pytest.mark.usefixtures("gpu_check_scripts")

DECODING_CHECK = Path(__file__).parents[2] / "kernels" / "gpu_check" / "check_decoding.py"


@pytest.fixture
def measure(gpu_check_scripts: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, with few repeats."""
    assert gpu_check_scripts
    import measure

    monkeypatch.setattr(measure, "REPEATS", 2)
    monkeypatch.setattr(measure, "WARM_UPS", 1)
    return measure


def run_measure(
    measure: Any,
    way: str,
    bundle: Path,
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> list[dict[str, Any]]:
    arguments = ["measure.py", way, "fp32", str(bundle), str(reference), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", arguments)
    measure.main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def reference(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Three clips and ONNX Runtime's latents of them."""
    clips = np.random.default_rng(0).integers(0, 256, (3, 5, 16, 24, 3), np.uint8)
    graph = tiny_bundle / "encode.fp32.onnx"
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (latents,) = session.run(["latents"], {session.get_inputs()[0].name: clips})
    np.savez(tmp_path / "reference.npz", clips=clips, latents=latents)
    return tmp_path / "reference.npz"


@pytest.mark.parametrize(
    "way", ["native", "onnxruntime", "torch-eager", "torch-channels-last", "torch-compile"]
)
def test_every_way_agrees_with_the_reference(
    measure: Any,
    tiny_bundle: Path,
    reference: Path,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Compiling for a CPU takes a minute; the trace, in one piece, is the same.
    traced = partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", traced)
    rows = run_measure(measure, way, tiny_bundle, reference, monkeypatch, capsys)
    assert [row["batch"] for row in rows] == [1, 8]
    for row in rows:
        # PyTorch's own channels-last GroupNorm isn't accurate; on clips as small as these it is.
        assert row["passed"], row
        assert row["host_to_host"]["median_ms"] >= row["host_to_host"]["minimum_ms"] > 0
        assert row["host_to_host"]["repeats"] == 2
        assert row["compute"] is None  # There are no CUDA events on a CPU.
        assert row["wrong_ids"] == 0


def test_compute_is_timed_by_the_events_of_the_session(
    measure: Any, tiny_bundle: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ways

    from magvit_runtime import open_bundle
    from magvit_runtime.cuda.stage_times import StageTimes

    stored = np.load(reference)
    times = StageTimes()

    class Session:
        """Like a session on a GPU: it records its stages while a caller asks for them."""

        capabilities = SimpleNamespace(version="7")
        stage_times = times

        def run(self, _: Any, outputs: list[str]) -> list[Any]:
            if times.seconds is not None:
                times.seconds.append((1.0, 0.025, 2.0))
            latents = stored["latents"]
            bits = np.moveaxis(latents > 0, 1, -1)
            ids = (bits * 2 ** np.arange(bits.shape[-1])).sum(axis=-1).astype(np.int32)
            return [{"ids": ids, "latents": latents}[name] for name in outputs]

    monkeypatch.setattr(ways, "_open_session", lambda *_: Session())
    way = ways.open_way("native", "fp32", open_bundle(tiny_bundle), "cuda")
    row = measure.measure(way, stored["clips"], stored["latents"], "fp32")
    assert row["passed"]
    assert row["compute"] == {"median_ms": 25.0, "minimum_ms": 25.0, "repeats": 2}
    assert row["host_to_host"]["median_ms"] < 1000
    assert times.seconds is None  # Host to host is timed without them.


def test_an_onnxruntime_without_cuda_is_not_run(tiny_bundle: Path, reference: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    import running
    import steps

    place = steps.Workplace(reference.parent, tiny_bundle)
    (measured,) = (step for step in steps.second_set(place) if step.name == "onnxruntime-fp32")
    assert not running.run_steps([measured], place, "none")
    result = json.loads((place.output / "gpu_check.json").read_text())["steps"]["onnxruntime-fp32"]
    assert result["state"] == "not run"
    assert result["reason"] == "the installed onnxruntime runs on CPU only"


def test_a_batch_that_fails_is_a_row(
    measure: Any,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reference = tmp_path / "reference.npz"
    np.savez(reference, clips=np.zeros((1, 5, 16, 24, 3), np.uint8), latents=np.zeros((1, 2)))
    rows = run_measure(measure, "native", tiny_bundle, reference, monkeypatch, capsys)
    assert len(rows) == 2
    assert all(row["error"].startswith("InputError") and not row["passed"] for row in rows)


def test_the_gpu_is_looked_at_while_it_works(
    measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nsleep 0.2\necho '900, 1980, [N/A]'\necho '1, 2, 3'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    runs: list[int] = []
    assert measure.gpu_state(lambda: runs.append(1)) == {"memory_mib": 900, "sm_mhz": 1980}
    assert runs


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Callable[[ExitStack], Any]]:
    """The stand-in for the GPU, with the CUDA kernels run on the CPU; and what checks run on."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "runtime"))
    import check_operators
    from runtime import stand_in_gpu
    from runtime.stand_in_cudnn import operators_on

    from magvit_runtime.cuda.device import open_device

    cuda = stand_in_gpu.install(monkeypatch)[0]
    cuda.milliseconds = [1.0] * 1000
    monkeypatch.setattr(check_operators, "LAUNCHES", 1)
    monkeypatch.setattr(check_operators, "ROUNDS", 1)
    monkeypatch.setattr(check_operators, "PERIOD", 997)  # So that small maps see it repeat.
    device = open_device()

    def gpu(memory: ExitStack) -> Any:
        return check_operators.Gpu(device, operators_on(cuda), device.new_stream(), memory)

    return cuda, gpu


def test_the_operators_check_passes_and_can_fail(
    monkeypatch: pytest.MonkeyPatch, stand_in: tuple[Any, Callable[[ExitStack], Any]]
) -> None:
    import check_operators

    cuda, gpu_in = stand_in
    sizes = ((32, 3, 5, 7), (64, 2, 4, 4))
    monkeypatch.setattr(check_operators, "SIZES", sizes)
    with ExitStack() as memory:
        gpu = gpu_in(memory)
        rows = [
            row
            for size in sizes
            for dtype in ("float16", "float32")
            for row in check_operators.check_case(gpu, 2, size, dtype, seed=0)
        ]
        assert {row["operator"] for row in rows} == {
            "statistics",
            "apply",
            "pixels",
            "unfolded pixels",
            "lfq",
        }
        assert all(row["passed"] for row in rows), rows
        monkeypatch.setattr(check_operators, "group_norm_silu", lambda x, *_: np.zeros_like(x))
        rows = check_operators.check_case(gpu, 1, sizes[0], "float32", seed=0)
        assert [row["operator"] for row in rows if not row["passed"]] == ["apply"]
    assert not cuda.blocks


def test_the_conv_check_passes_and_can_fail(
    monkeypatch: pytest.MonkeyPatch, stand_in: tuple[Any, Callable[[ExitStack], Any]]
) -> None:
    """A plain loop stands in for the conv."""
    import check_conv

    from magvit_runtime.native_libraries.cuda_operators import Addends, CudaOperators

    cuda, gpu_in = stand_in
    case = check_conv.Case(64, 128, (3, 32, 8), 3)

    def rows() -> list[dict[str, Any]]:
        with ExitStack() as memory:
            return check_conv.check_conv(gpu_in(memory), case, batch=1, seed=0)

    passed = rows()
    names = ["conv", "conv with residual", "conv's moments"]
    assert [row["operator"] for row in passed] == names
    assert all(row["passed"] for row in passed), passed
    run = CudaOperators.conv

    def without_addends(self: CudaOperators, *arguments: Any) -> None:
        source, weight, frames, _, *rest = arguments
        run(self, source, weight, frames, Addends(), *rest)

    def without_moments(self: CudaOperators, *arguments: Any) -> None:
        *first, _, _, stream = arguments
        run(self, *first, None, None, stream)

    for broken, failing in [
        (lambda *_: None, {"conv", "conv with residual", "conv's moments"}),
        (without_addends, {"conv with residual"}),
        (without_moments, {"conv's moments"}),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(CudaOperators, "conv", broken)
            assert {row["operator"] for row in rows() if not row["passed"]} == failing
    with monkeypatch.context() as patch:
        patch.setattr(CudaOperators, "conv_fits", lambda *_: False)
        assert rows() == []
    assert not cuda.blocks


def test_the_decoding_check_passes_and_can_fail(
    monkeypatch: pytest.MonkeyPatch, stand_in: tuple[Any, Callable[[ExitStack], Any]]
) -> None:
    """On the operators of decoders and of codebooks."""
    import check_decoding

    from magvit_runtime.native_libraries.cuda_operators import CudaOperators

    cuda, gpu_in = stand_in
    small = check_decoding.Sizes(
        codes=(18, 2, 3, 4),
        rows=(24, 1, 3, 4),
        attention=(40, 1, 5, 7),
        coarse=(64, 2, 3, 4),
        repeated=(16, 1, 5, 4),
        colours=(3, 3, 8, 9),
        codebook=70,
    )

    def rows() -> list[dict[str, Any]]:
        with ExitStack() as memory:
            gpu = gpu_in(memory)
            return [
                row
                for check in check_decoding.CHECKS
                for dtype in ("float16", "float32")
                for row in check(gpu, batch=2, dtype=dtype, seed=0, sizes=small)
            ]

    passed = rows()
    assert len({row["operator"] for row in passed}) == 9
    assert all(row["passed"] for row in passed), passed
    for operator in vars(CudaOperators):
        # Each operator that does nothing is noticed.
        if operator.startswith("_") or f".{operator}(" not in DECODING_CHECK.read_text():
            continue
        if operator.endswith("_bytes"):
            continue
        with monkeypatch.context() as patch:
            patch.setattr(CudaOperators, operator, lambda *_: None)
            assert any(not row["passed"] for row in rows()), operator
    assert not cuda.blocks
