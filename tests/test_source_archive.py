"""The source archive of `make wheel`, on machines that have less than this one.

MAGVIT_WHEELS names the folder that holds it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from runtime.magvit_process import MAIN

FOLDER = os.environ.get("MAGVIT_WHEELS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOLDER is None, reason="MAGVIT_WHEELS is not set; `make wheel` builds one"),
]
# Where CMake looks for nvcc, whatever the path is.
EVERYWHERE = ("/usr/local/cuda/bin", "/usr/local/bin", "/usr/bin", "/bin")


@pytest.fixture(scope="module")
def archive() -> Path:
    (path,) = Path(FOLDER or "").glob("*.tar.gz")
    return path.resolve()


def build_wheel(
    archive: Path, output: Path, path: Path, *hidden: str
) -> subprocess.CompletedProcess[str]:
    """`pip wheel` with one folder as its path. CMake doesn't look into the folders `hidden`."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"CC", "CXX", "CUDACXX", "CUDA_PATH", "CUDA_HOME"}
    }
    return subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(output)),
            *(str(archive), f"--config-settings=cmake.define.CMAKE_IGNORE_PATH={';'.join(hidden)}"),
        ],
        env=environment | {"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_whole(archive: Path) -> None:
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "CMakeLists.txt", "kernels/exports.map"} <= names
    assert "runtime/magvit_runtime/__init__.py" in names
    assert not any(name.startswith(("build/", ".venv/", "dist/")) for name in names)


def test_without_nvcc_it_becomes_a_wheel_that_makes_tokens(
    archive: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for program in (
        "c++",
        "g++",
        "cc",
        "gcc",
        "ld",
        "as",
        "ar",
        "ranlib",
        "cmake",
        "ninja",
        "uname",
    ):
        if found := shutil.which(program):
            (tools / program).symlink_to(found)
    done = build_wheel(archive, tmp_path / "wheel", tools, *EVERYWHERE)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with ZipFile(wheel) as file:
        libraries = {Path(name).name for name in file.namelist() if name.endswith(".so")}
        file.extractall(tmp_path / "site")
    assert libraries == {"libmagvit_operators.so"}

    clips = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3), np.uint8)
    np.save(tmp_path / "clips.npy", clips)
    tokens = []
    for site in (None, tmp_path / "site"):
        environment = dict(os.environ)
        if site is not None:
            environment |= {"PYTHONPATH": str(site)}
            environment.pop("MAGVIT_LIBRARY_DIR", None)
        output = tmp_path / f"tokens-{len(tokens)}.npz"
        command = [sys.executable, "-c", MAIN, "tokenize", tiny_bundle, tmp_path / "clips.npy"]
        subprocess.run(
            [*map(str, command), "-o", str(output), "--backend", "native"],
            env=environment,
            cwd=tmp_path,
            check=True,
        )
        tokens.append(np.load(output)["tokens"])
    assert tokens[0].size
    np.testing.assert_array_equal(*tokens)


def test_the_cpu_operators_compile_for_processors_without_kernels_of_their_own(
    archive: Path, tmp_path: Path
) -> None:
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    (kernels,) = tmp_path.glob("*/kernels")
    sources = sorted(kernels.glob("*/*_cpu.cpp"))
    assert len(sources) >= 7
    include = (f"-I{kernels}", f"-I{kernels / 'include'}")
    command = ["c++", "-std=c++17", "-fsyntax-only", *include, *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_compiler_pip_says_what_to_do(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = build_wheel(archive, tmp_path / "wheel", tmp_path / "empty")
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "needs a C++17 compiler" in said
    assert "Fix: install the wheel" in said
    assert "pip install --only-binary :all: magvit-runtime" in said
    assert "apt-get install g++" in said
