"""gpu-check with the packages of a bare GPU machine and the wheels that are fetched for it.

The environment is Python 3.12 with such a machine's packages, except torch, which is several
gigabytes. So the steps that import torch aren't started, and its import isn't tested. There is no
GPU, CMake or nvcc either; the tests have stand-ins for them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# The packages that gpu-check imports and that a PyTorch image with transformers and ONNX has.
PACKAGES = (
    "cuda-bindings==13.*",
    "huggingface_hub==1.33.0",
    "numpy==2.5.2",
    "onnx==1.23.1",
    "onnx-ir==1.0.0",
    "onnxscript==0.7.2",
    "safetensors==0.8.0",
)

pytestmark = pytest.mark.slow


def python_3_12() -> Path:
    on_path = shutil.which("python3.12")
    found = [] if on_path is None else [Path(on_path)]
    found += sorted((Path.home() / ".pyenv" / "versions").glob("3.12*/bin/python3.12"))
    for python in found:
        # pyenv's own program on the PATH refuses to run if another version is chosen.
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip("no Python 3.12 here: neither on the PATH nor pyenv's")


def pip(*command: object) -> None:
    """Runs a command of pip; skips the test if the packages can't be downloaded."""
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if "No matching distribution found" in result.stderr or "ConnectionError" in result.stderr:
        pytest.skip(f"packages can't be fetched here: {result.stderr.strip().splitlines()[-1]}")
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with `PACKAGES`."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([python_3_12(), "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip(python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *PACKAGES)
    return python


@pytest.fixture(scope="module")
def wheels(bare_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels that docs/gpu.md's command fetches."""
    docs = (REPOSITORY / "docs" / "gpu.md").read_text()
    found = re.search(r"^python3 (-m pip download .*) --dest wheels (.*)$", docs, re.MULTILINE)
    assert found is not None
    folder = tmp_path_factory.mktemp("fetched") / "wheels"
    options, packages = shlex.split(found[1]), shlex.split(found[2])
    pip(bare_python, *options, "--quiet", "--dest", folder, *packages)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """No package but the environment's own, and programs that say they are a GPU's and CMake."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("cmake", ""), ("nvcc", ""), ("nvidia-smi", "echo 'No GPU, 9.0, 0'")):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}


def run_gpu_check(
    python: Path, environment: dict[str, str], *arguments: object
) -> subprocess.CompletedProcess[str]:
    command = [str(python), str(REPOSITORY / "kernels" / "gpu_check"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_first_set_fits_and_finds_all_but_torch(
    bare_python: Path, wheels: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    result = run_gpu_check(
        bare_python, environment, "--dry-run", "--wheels", wheels, "--output", output
    )
    *_, total, missing = result.stdout.splitlines()
    seconds = re.fullmatch(r"the first set: (\d+) s of 540 s", total)
    assert seconds is not None, result.stdout + result.stderr
    assert int(seconds[1]) <= 540
    assert missing == "missing here: torch"
    assert result.returncode == 1


def test_without_the_wheels_a_dry_run_says_what_is_missing(
    bare_python: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    result = run_gpu_check(bare_python, environment, "--dry-run", "--output", tmp_path / "out")
    assert result.stdout.splitlines()[-1] == "missing here: msgspec, torch, cudnn"
    assert result.returncode == 1


def test_steps_without_torch_run_on_these_packages_alone(
    bare_python: Path,
    wheels: Path,
    environment: dict[str, str],
    tiny_bundle: Path,
    operators_library: Path,
    tmp_path: Path,
) -> None:
    """The reference is made; the native step gets as far as asking for a GPU and its library."""
    output = tmp_path / "out"
    shutil.copytree(operators_library.parent, output / "cmake" / "lib")
    (output / "cmake" / "lib" / "libmagvit_cuda.so").write_bytes(b"")
    run_gpu_check(
        bare_python,
        environment,
        *("--only", "wheels", "reference", "native-fp32", "--wheels", wheels),
        *("--output", output, "--bundle", tiny_bundle),
    )
    steps = json.loads((output / "gpu_check.json").read_text())["steps"]
    states = {name: step["state"] for name, step in steps.items()}
    assert states == {"wheels": "passed", "reference": "passed", "native-fp32": "failed"}
    assert "magvit_runtime.errors.BackendError" in steps["native-fp32"]["reason"]
