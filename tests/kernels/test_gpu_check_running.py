"""How gpu-check runs its steps: budgets, three states, and a journal that loses nothing."""

from __future__ import annotations

import json
import os
import sys
import time
import tomllib
import zipfile
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("gpu_check_scripts")

ROW = {
    "way": "native",
    "precision": "fp16",
    "batch": 8,
    "version": "1",
    "passed": True,
    "compute": {"median_ms": 60.0, "minimum_ms": 59.5, "repeats": 100},
    "host_to_host": {"median_ms": 62.5, "minimum_ms": 61.0, "repeats": 100},
    "rms_error_sigma": 2.7e-3,
    "changed_tokens": "3 of 3840",
    "bits_outside_margin": 0,
    "gpu": {"memory_mib": 900, "sm_mhz": 1980, "celsius": 40},
}
PRINT_ROW = f"print({json.dumps(json.dumps(ROW))}, flush=True)"


def step(name: str, code: str, seconds: int = 30, **needs: Any) -> Any:
    import steps

    return steps.Step(name, (sys.executable, "-c", code), seconds, **needs)


def run_all(steps_to_run: list[Any], output: Path, wheels: Path | None = None) -> bool:
    import running
    import steps

    place = steps.Workplace(output, wheels=wheels)
    passed: bool = running.run_steps(steps_to_run, place, "NVIDIA L4, 8.9, 580.1")
    return passed


def results_in(output: Path) -> dict[str, Any]:
    steps: dict[str, Any] = json.loads((output / "gpu_check.json").read_text())["steps"]
    return steps


def test_a_failing_step_hides_nothing(tmp_path: Path) -> None:
    steps = [
        step("fails", "raise SystemExit('no nvcc')"),
        step("cut", f"{PRINT_ROW}; print('{{', flush=True); import os; os.abort()"),
        step("wrong", "import json; print(json.dumps({'passed': False}))"),
        step("needs", "", modules=("no_such_package.part",), tools=("no-such-tool",)),
        step("says so", "import json; print(json.dumps({'not_run': 'no CUDA in it'}))"),
        step("waits", "", files=(tmp_path / "never made",)),
        step("works", f"print('a library says hello'); {PRINT_ROW}"),
    ]
    assert not run_all(steps, tmp_path)
    results = results_in(tmp_path)
    states = {name: result["state"] for name, result in results.items()}
    failed, not_run = dict.fromkeys(("fails", "cut", "wrong"), "failed"), "not run"
    assert states == {
        **failed,
        **dict.fromkeys(("needs", "says so", "waits"), not_run),
        "works": "passed",
    }
    assert results["fails"]["reason"] == "exit code 1: no nvcc"
    assert results["wrong"]["reason"] == "a check failed"
    assert results["needs"]["reason"] == (
        "the Python module no_such_package.part isn't installed; no-such-tool isn't on the PATH"
    )
    assert results["says so"]["reason"] == "no CUDA in it"
    assert "never made is missing: --dry-run says which step makes it" in results["waits"]["reason"]
    assert results["cut"]["rows"] == results["works"]["rows"] == [ROW]
    table = (tmp_path / "gpu_check.md").read_text()
    row = "| native | fp16 | 8 | 60.0 (59.5) | 62.5 (61.0) | 7.500 | 2.7e-03 | 3 of 3840 | 0 |"
    assert f"{row} 900 | 1980 | 40 | 1 |" in table
    assert "| fails | FAILED: exit code 1: no nvcc |" in table
    assert "| needs | NOT RUN: the Python module no_such_package.part" in table

    # Again, of one step: the others' results stay.
    assert run_all([step("fails", "print('{}')")], tmp_path)
    again = results_in(tmp_path)
    assert again["fails"]["state"] == "passed"
    assert again["works"]["rows"] == [ROW]


def test_a_step_is_killed_after_its_budget_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import running

    monkeypatch.setattr(running, "SLACK_SECONDS", 0)
    child = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
    child += f"'import time; time.sleep(60)']); print('{{\"child\":', p.pid, '}}'); {PRINT_ROW}"
    assert not run_all([step("hangs", f"{child}; p.wait()", seconds=2)], tmp_path)
    result = results_in(tmp_path)["hangs"]
    assert result["reason"] == "killed: not done after 2 s"
    assert 2 <= result["seconds"] < 20
    assert result["rows"][1] == ROW
    pid = result["rows"][0]["child"]
    deadline = time.monotonic() + 20
    while _is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(") ")[2][0] != "Z"


def test_what_a_step_leaves_of_its_budget_the_next_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import running

    monkeypatch.setattr(running, "SLACK_SECONDS", 0)
    slow = step("slow", "import time; time.sleep(3)", seconds=1)
    assert run_all([step("quick", "", seconds=30), slow], tmp_path)
    assert not run_all([slow], tmp_path)


def test_a_line_is_in_the_journal_while_its_step_runs(tmp_path: Path) -> None:
    code = f"""
import pathlib, time
{PRINT_ROW}
while '"row"' not in pathlib.Path({str(tmp_path / "gpu_check.jsonl")!r}).read_text():
    time.sleep(0.05)
"""
    assert run_all([step("looks", code)], tmp_path)


def test_a_journal_that_ends_in_the_middle_is_read(tmp_path: Path) -> None:
    import journal
    import report

    lines = [
        {"run": {"gpu": "NVIDIA L4", "date": "2026-11-26"}},
        {"step": "native-fp16", "budget_seconds": 195, "date": "2026-11-26"},
        {"step": "native-fp16", "row": ROW},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (tmp_path / "gpu_check.jsonl").write_text(text + '\n{"step": "native-fp16", "ro')
    found = journal.Journal(tmp_path).report()
    step = found["steps"]["native-fp16"]
    assert step["rows"] == [ROW]
    assert (step["state"], step["reason"]) == ("failed", "gpu-check ended before it did")
    assert "| native-fp16 | FAILED: gpu-check ended before it did | – | 195 |" in (
        report.markdown(found)
    )


def test_steps_see_this_checkout_and_no_network(tmp_path: Path) -> None:
    code = (
        "import json, os, magvit_runtime; from importlib.metadata import distribution;"
        "print(json.dumps({'file': magvit_runtime.__file__,"
        "'facts': str(distribution('magvit-runtime').locate_file('')),"
        "'index': os.environ['PIP_NO_INDEX'], 'libraries': os.environ['MAGVIT_LIBRARY_DIR']}))"
    )
    assert run_all([step("look", code)], tmp_path)
    (row,) = results_in(tmp_path)["look"]["rows"]
    assert Path(row["file"]).is_relative_to(Path(__file__).parents[2] / "runtime")
    assert row["facts"] == str(tmp_path / "checkout")
    assert row["index"] == "1"
    assert row["libraries"] == str(tmp_path / "cmake" / "lib")


def test_packages_of_wheels_are_found_before_what_is_installed(tmp_path: Path) -> None:
    import steps

    wheels, output = tmp_path / "wheels", tmp_path / "out"
    wheels.mkdir()
    facts = "Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheels / "numpy-0.0.1-py3-none-any.whl", "w") as archive:
        archive.writestr("numpy.py", "marker = 'of the wheel'\n")
        archive.writestr("numpy-0.0.1.dist-info/METADATA", facts)
        archive.writestr("numpy-0.0.1.dist-info/WHEEL", tags)
        archive.writestr("numpy-0.0.1.dist-info/RECORD", "")
    install = steps.first_set(steps.Workplace(output, wheels=wheels))[0]
    look = "import numpy, msgspec, json; print(json.dumps({'marker': numpy.marker}))"
    assert run_all([install, step("look", look)], output, wheels), results_in(output)
    assert results_in(output)["look"]["rows"] == [{"marker": "of the wheel"}]


def test_an_interrupted_run_leaves_no_step_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import running

    pid = tmp_path / "pid"
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    def interrupt(_: float) -> None:
        os.sched_yield()
        if pid.is_file() and pid.read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(running.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_all([step("hangs", code)], tmp_path)
    assert not _is_alive(int(pid.read_text()))


def test_a_checkout_that_is_not_installed_has_its_entry_points(tmp_path: Path) -> None:
    import running
    import steps

    paths = running.step_environment(steps.Workplace(tmp_path))["PYTHONPATH"].split(os.pathsep)
    (found,) = Distribution.discover(name="magvit-runtime", path=[str(tmp_path / "checkout")])
    assert str(tmp_path / "checkout") in paths
    project = tomllib.loads((steps.ROOT / "pyproject.toml").read_text())["project"]
    assert found.version == project["version"]
    assert {(point.group, point.name, point.value) for point in found.entry_points} == {
        (group, name, value)
        for group, points in project["entry-points"].items()
        for name, value in points.items()
    }
