"""`make gpu-check` as a command: its sets of steps, its dry run, and what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "kernels" / "gpu_check"
FIRST = ["build", "bundle", "reference", "native-fp16", "torch-compile-fp16"]


def run_gpu_check(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def step_names(result: subprocess.CompletedProcess[str]) -> list[str]:
    lines = result.stdout.splitlines()
    return [line.split(":")[0] for line in lines if line.endswith(" so far")]


@pytest.fixture
def tools(tmp_path: Path) -> str:
    """A PATH on which CMake and nvcc are found, which no test here starts."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("cmake", "nvcc"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with a wheel that holds the modules which tests don't have installed."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "cudnn-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("cudnn/__init__.py", "")
        archive.writestr("cuda/bindings/runtime.py", "")
    return folder


def test_without_a_gpu_nothing_is_run_and_nothing_passes(tmp_path: Path) -> None:
    output = tmp_path / "report"
    result = run_gpu_check("--output", output, PATH=str(tmp_path))
    assert result.returncode == 1
    assert "no NVIDIA GPU on this machine" in result.stderr
    assert not output.exists()


def test_a_dry_run_names_every_step_and_adds_up_the_budgets(
    tmp_path: Path, wheels: Path, tools: str
) -> None:
    output = tmp_path / "out"
    result = run_gpu_check("--dry-run", "--output", output, "--wheels", wheels, PATH=tools)
    assert result.returncode == 0, result.stdout
    assert step_names(result) == ["wheels", *FIRST]
    lines = result.stdout.splitlines()
    sums = [line.split(", ")[1].split()[0] for line in lines if line.endswith(" so far")]
    assert lines[-2:] == [f"the first set: {sums[-1]} s of 540 s", "missing here: nothing"]
    assert int(sums[-1]) <= 540
    assert "    cudnn: in a wheel" in lines
    assert "    torch: installed" in lines
    assert f"    {output}/bundle/encode.fp16.onnx: made by the step bundle" in lines
    assert f"    {output}/packages: made by the step wheels" in lines
    assert not output.exists()


def test_the_second_set_is_all_the_rest() -> None:
    result = run_gpu_check("--dry-run", "--set", "second")
    names = step_names(result)
    ways = ("native", "torch-compile", "torch-eager", "torch-channels-last", "onnxruntime")
    precisions = ("fp16", "tf32", "fp32")
    measured = {f"{way}-{precision}" for way in ways for precision in precisions} - set(FIRST)
    flavours = ("tensorrt", "tensorrt-rtx")
    engines = {f"{flavour}-{part}" for flavour in flavours for part in ("build", "fp16")}
    checks = {
        "native-profile",
        "kernels-build",
        "kernels",
        "operators",
        "decoding",
        "conv",
        "plugins",
    }
    assert set(names) == measured | engines | checks
    assert len(names) == len(set(names))
    assert step_names(run_gpu_check("--dry-run", "--set", "all")) == [*FIRST, *names]


def test_a_dry_run_fails_where_something_is_missing(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    result = run_gpu_check(
        *("--dry-run", "--bundle", nothing, "--only", "build", "native-fp16"), PATH=str(tmp_path)
    )
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert "    nvcc: MISSING" in lines
    assert f"    {nothing}/encode.fp16.onnx: MISSING" in lines
    missing = lines[-1].removeprefix("missing here: ").split(", ")
    assert {"cmake", "nvcc", f"{nothing}/encode.fp16.onnx"} <= set(missing)
    assert "numpy" not in missing


@pytest.mark.usefixtures("gpu_check_scripts")
def test_a_dry_run_fails_where_the_first_set_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dry_run
    import steps

    place = steps.Workplace(tmp_path)
    total = sum(step.seconds for step in steps.first_set(place))
    assert dry_run.dry_run([], place)
    monkeypatch.setattr(dry_run, "FIRST_SET_SECONDS", total - 1)
    assert not dry_run.dry_run([], place)


def test_an_unknown_step_is_refused() -> None:
    result = run_gpu_check("--only", "everything", "bundle")
    assert result.returncode == 2
    assert "no step is named everything: see" in result.stderr


def test_wheels_of_another_python_are_refused_before_anything_is_run(
    wheels: Path, tmp_path: Path
) -> None:
    wheel = wheels / "msgspec-0.22.0-cp27-cp27mu-manylinux_2_17_x86_64.whl"
    wheel.write_bytes(b"")
    result = run_gpu_check("--wheels", wheels, "--output", tmp_path / "out")
    assert result.returncode == 2
    assert f"{wheel} is for cp27-cp27mu-manylinux_2_17_x86_64; this is Python 3." in result.stderr
    assert "msgspec==0.22.0" in result.stderr
    assert not (tmp_path / "out").exists()


def all_steps(steps: ModuleType, place: Any) -> list[Any]:
    return [*steps.first_set(place), *steps.second_set(place)]


@pytest.mark.usefixtures("gpu_check_scripts")
def test_each_step_needs_what_an_earlier_one_makes(tmp_path: Path) -> None:
    import steps

    made: set[Path] = set()
    for step in all_steps(steps, steps.Workplace(tmp_path / "out", wheels=tmp_path)):
        missing = [path for path in step.inputs if not path.exists() and path not in made]
        assert not missing, step.name
        made |= set(step.made)


@pytest.mark.usefixtures("gpu_check_scripts")
def test_the_docs_name_every_step_and_its_budget(tmp_path: Path) -> None:
    import steps

    documented: dict[str, int] = {}
    docs = (FOLDER.parents[1] / "docs" / "gpu.md").read_text()
    for names, seconds in re.findall(r"^\| (`[^|]+`) \| ([\d, ]+) \|", docs, re.MULTILINE):
        patterns, numbers = re.findall("`(.+?)`", names), [int(n) for n in seconds.split(", ")]
        numbers *= len(patterns) // len(numbers)
        documented |= dict(zip(patterns, numbers, strict=True))
    every = all_steps(steps, steps.Workplace(tmp_path, wheels=tmp_path))
    for step in every:
        found = [n for pattern, n in documented.items() if fnmatch(step.name, pattern)]
        assert set(found) == {step.seconds}, step.name
    for pattern in documented:
        assert any(fnmatch(step.name, pattern) for step in every), pattern


@pytest.mark.usefixtures("gpu_check_scripts")
@pytest.mark.parametrize(
    "script",
    [
        "measure.py",
        "kernel_times.py",
        "check_operators.py",
        "check_decoding.py",
        "check_conv.py",
        "prepare.py",
    ],
)
def test_steps_that_import_the_runtime_name_its_packages(tmp_path: Path, script: str) -> None:
    """The packages are those that an interpreter has loaded after importing the script."""
    import steps

    code = (
        f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import {Path(script).stem};"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    command = (sys.executable, "-c", code)
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    needed = {"msgspec", "numpy", "cyclopts", "rich", "onnx"} & set(loaded)
    assert "msgspec" in needed
    users = [
        step
        for step in all_steps(steps, steps.Workplace(tmp_path))
        if str(FOLDER / script) in step.command
    ]
    assert users
    for step in users:
        assert needed <= set(step.modules), step.name
