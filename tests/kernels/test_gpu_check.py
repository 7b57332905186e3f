"""`make gpu-check` where there is no GPU: its steps, its measurements on the CPU, its report."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

FOLDER = Path(__file__).parents[2] / "kernels" / "gpu_check"
MODULES = ("check_operators", "measure", "report", "steps")


def run_gpu_check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module behind `python kernels/gpu_check`."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("gpu_check", FOLDER / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def test_without_a_gpu_nothing_is_run(tmp_path: Path) -> None:
    output = tmp_path / "report"
    result = run_gpu_check("--output", str(output), PATH=str(tmp_path))
    assert result.returncode == 0
    assert "no NVIDIA GPU on this machine" in result.stdout
    assert not output.exists()


def test_a_dry_run_names_every_step_and_finds_its_inputs(tmp_path: Path) -> None:
    result = run_gpu_check("--dry-run", "--output", str(tmp_path / "out"))
    assert result.returncode == 0, result.stdout
    steps = [line.split(":")[0] for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert steps[:5] == ["build", "kernels", "operators", "bundle", "reference"]
    ways = ("native", "torch-eager", "torch-channels-last", "torch-compile", "onnxruntime")
    assert steps[5:-4] == [f"{way}-{p}" for p in ("fp16", "tf32", "fp32") for way in ways]
    engines = ("tensorrt-rtx", "tensorrt")
    assert steps[-4:] == [f"{way}-{part}" for way in engines for part in ("build", "fp16")]
    assert "MISSING" not in result.stdout
    assert not (tmp_path / "out").exists()


def test_a_dry_run_names_what_is_missing(tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    result = run_gpu_check(
        "--dry-run", "--bundle", nothing, "--wheels", nothing, "--only", "wheels", "native-fp16"
    )
    assert result.returncode == 1
    assert f"{nothing}: MISSING" in result.stdout
    assert f"{nothing}/encode.fp16.onnx: MISSING" in result.stdout
    assert "reference.npz: made by a step" in result.stdout


def test_an_unknown_step_is_refused() -> None:
    result = run_gpu_check("--only", "everything")
    assert result.returncode == 2
    assert "no step is named everything" in result.stderr


def test_wheels_are_found_before_what_is_installed(tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    script = FOLDER / "install_wheels.py"
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "numpy-0.0.1-py3-none-any.whl"
    facts = "Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("numpy.py", "marker = 'of the wheel'\n")
        archive.writestr("numpy-0.0.1.dist-info/METADATA", facts)
        archive.writestr("numpy-0.0.1.dist-info/WHEEL", tags)
        archive.writestr("numpy-0.0.1.dist-info/RECORD", "")
    subprocess.run([sys.executable, script, wheels, environment], check=True)
    code = "import numpy, msgspec; print(numpy.marker, msgspec.__version__)"
    python = environment / "bin" / "python"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("of the wheel")


# What happens to steps.


def step(gpu_check: ModuleType, name: str, code: str, **needs: Any) -> Any:
    return gpu_check.Step(name, (sys.executable, "-c", code), **needs)


def test_a_failing_step_hides_nothing(
    gpu_check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "SECONDS", 5)
    row = {"way": "native", "precision": "fp16", "batch": 1, "version": "1", "passed": True}
    row |= {"milliseconds": 8.5, "milliseconds_a_clip": 8.5, "rms_error_sigma": 2.7e-3}
    row |= {"changed_tokens": "3 of 3840", "gpu": {"memory_mib": 900}}
    printed = f"print({json.dumps(json.dumps(row))}, flush=True)"
    steps = [
        step(gpu_check, "fails", "raise SystemExit('no nvcc')"),
        step(gpu_check, "hangs", f"{printed}; import time; time.sleep(60)"),
        step(gpu_check, "cut", f"{printed}; print('{{', flush=True); import os; os.abort()"),
        step(gpu_check, "wrong", "import json; print(json.dumps({'passed': False}))"),
        step(gpu_check, "needs", "", modules=("no_such_package.part",), tools=("no-such-tool",)),
        step(gpu_check, "waits", "", files=(tmp_path / "never made",)),
        step(gpu_check, "works", printed),
    ]
    report = gpu_check.run_steps(steps, tmp_path, None, "NVIDIA L4, 8.9, 580.1")
    results = report["steps"]
    assert [name for name, result in results.items() if result["passed"]] == ["needs", "works"]
    assert "no nvcc" in results["fails"]["error"]
    assert results["hangs"]["error"] == "not done after 5 s"
    assert results["hangs"]["rows"] == results["cut"]["rows"] == results["works"]["rows"] == [row]
    assert results["wrong"]["error"] == "a check failed"
    assert results["needs"]["skipped"] == "no_such_package.part, no-such-tool isn't installed"
    assert "never made is missing" in results["waits"]["error"]

    # Again, of one step: the others' results stay.
    gpu_check.run_steps([step(gpu_check, "fails", "print('{}')")], tmp_path, None, "NVIDIA L4")
    stored = json.loads((tmp_path / "gpu_check.json").read_text())
    assert stored["steps"]["fails"]["passed"]
    assert stored["steps"]["works"]["rows"] == [row]
    table = (tmp_path / "gpu_check.md").read_text()
    assert "| native | fp16 | 1 | 8.5 | 8.5 | 2.7e-03 | 3 of 3840 | 900 | 1 |" in table
    assert "| hangs | FAILED: not done after 5 s |" in table
    assert "| needs | skipped: no_such_package.part" in table


def test_steps_see_this_checkout_and_no_network(gpu_check: ModuleType, tmp_path: Path) -> None:
    code = (
        "import json, os, magvit_runtime; from importlib.metadata import distribution;"
        "print(json.dumps({'file': magvit_runtime.__file__,"
        "'facts': str(distribution('magvit-runtime').locate_file('')),"
        "'index': os.environ['PIP_NO_INDEX'], 'libraries': os.environ['MAGVIT_LIBRARY_DIR']}))"
    )
    (row,) = gpu_check.run_step(step(gpu_check, "look", code), tmp_path, None)["rows"]
    assert Path(row["file"]).is_relative_to(FOLDER.parents[1] / "runtime")
    assert row["facts"] == str(tmp_path / "checkout")
    assert row["index"] == "1"
    assert row["libraries"] == str(tmp_path / "cmake" / "lib")


# What is measured, here on the CPU.


@pytest.fixture
def measure(gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with few repeats."""
    assert str(Path(gpu_check.__file__ or "").parent) in sys.path
    import measure

    monkeypatch.setattr(measure, "REPEATS", 2)
    monkeypatch.setattr(measure, "WARM_UPS", 1)
    return measure


def run_measure(
    measure: ModuleType,
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


@pytest.mark.parametrize("way", ["native", "onnxruntime", "torch-eager", "torch-channels-last"])
def test_every_way_agrees_with_the_reference(
    measure: ModuleType,
    tiny_bundle: Path,
    tmp_path: Path,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 5, 16, 24, 3), np.uint8)
    graph = tiny_bundle / "encode.fp32.onnx"
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (latents,) = session.run(["latents"], {session.get_inputs()[0].name: clips})
    reference = tmp_path / "reference.npz"
    np.savez(reference, clips=clips, latents=latents)
    rows = run_measure(measure, way, tiny_bundle, reference, monkeypatch, capsys)
    assert [row["batch"] for row in rows] == [1, 4, 8]
    for row in rows:
        # PyTorch's own channels-last GroupNorm isn't accurate; on clips as small as these it is.
        assert row["passed"], row
        assert row["milliseconds"] >= row["minimum"] > 0
        assert row["wrong_ids"] == 0


def test_an_onnxruntime_without_cuda_is_skipped(
    gpu_check: ModuleType, tiny_bundle: Path, tmp_path: Path
) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    reference = tmp_path / "reference.npz"
    np.savez(reference, clips=np.zeros((1, 5, 16, 24, 3), np.uint8), latents=np.zeros((1, 2)))
    (measured,) = (
        step
        for step in gpu_check.all_steps(tmp_path, tiny_bundle, None)
        if step.name == "onnxruntime-fp32"
    )
    result = gpu_check.run_step(measured, tmp_path, None)
    assert result == {"passed": True, "skipped": "the installed onnxruntime runs on CPU only"}


def test_a_batch_that_fails_is_a_row(
    measure: ModuleType,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reference = tmp_path / "reference.npz"
    np.savez(reference, clips=np.zeros((1, 5, 16, 24, 3), np.uint8), latents=np.zeros((1, 2)))
    rows = run_measure(measure, "native", tiny_bundle, reference, monkeypatch, capsys)
    assert len(rows) == 3
    assert all(row["error"].startswith("InputError") and not row["passed"] for row in rows)


@pytest.mark.usefixtures("gpu_check")
def test_the_operators_check_passes_and_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the stand-in for the GPU, with the CUDA kernels run on the CPU."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "runtime"))
    import check_operators
    from runtime import stand_in_gpu
    from runtime.stand_in_cudnn import operators_on

    from magvit_runtime.sessions.cuda_device import open_device

    cuda = stand_in_gpu.install(monkeypatch)[0]
    cuda.milliseconds = [1.0] * 1000
    sizes = ((32, 3, 5, 7), (64, 2, 4, 4))
    monkeypatch.setattr(check_operators, "SIZES", sizes)
    monkeypatch.setattr(check_operators, "LAUNCHES", 1)
    device = open_device()
    with ExitStack() as memory:
        gpu = check_operators.Gpu(device, operators_on(cuda), device.new_stream(), memory)
        rows = [
            row
            for size in sizes
            for dtype in ("float16", "float32")
            for row in check_operators.check_case(gpu, 2, size, dtype, seed=0)
        ]
        assert {row["operator"] for row in rows} == {"statistics", "apply", "pixels", "lfq"}
        assert all(row["passed"] for row in rows), rows
        monkeypatch.setattr(check_operators, "group_norm_silu", lambda x, *_: np.zeros_like(x))
        rows = check_operators.check_case(gpu, 1, sizes[0], "float32", seed=0)
        assert [row["operator"] for row in rows if not row["passed"]] == ["apply"]
    assert not cuda.blocks
