"""`make gpu-check`: what this project does on the GPU of this machine, as one JSON and one table.

    python kernels/gpu_check [--output DIR] [--bundle DIR] [--wheels DIR] [--only STEP ...]
    python kernels/gpu_check --dry-run

Every step is a process of its own with 8 minutes of time. One that fails, or needs what isn't
installed, is recorded, and the next runs all the same; what it printed by then is kept. `--only`
runs some again on what the others left in the output folder, and updates the report. Nothing is
downloaded: packages that are missing can be given as a folder of wheels.
Without a GPU it says so, runs nothing, and succeeds; `--dry-run` prints what would be run, and
whether all that it needs is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import site
import subprocess
import sys
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from report import Report, markdown
from steps import ROOT, SECONDS, Step, all_steps, environment


def main() -> None:
    """Runs the steps and writes gpu_check.json and gpu_check.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu-check")
    parser.add_argument("--bundle", type=Path, help="bundle with fp32 and fp16 encoders")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install for the run")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="steps to run")
    parser.add_argument("--dry-run", action="store_true", help="print the steps and what they need")
    given = parser.parse_args()
    output: Path = given.output.resolve()
    bundle, wheels = (
        None if path is None else path.resolve() for path in (given.bundle, given.wheels)
    )
    steps = all_steps(output, bundle, wheels)
    unknown = set(given.only or ()) - {step.name for step in steps}
    if unknown:
        parser.error(f"no step is named {', '.join(sorted(unknown))}: see --dry-run")
    chosen = [step for step in steps if given.only is None or step.name in given.only]
    if given.dry_run:
        sys.exit(0 if dry_run(steps, chosen) else 1)
    gpu = gpu_name()
    if gpu is None:
        print("gpu-check: no NVIDIA GPU on this machine (nvidia-smi finds none): nothing was run")
        return
    output.mkdir(parents=True, exist_ok=True)
    report = run_steps(chosen, output, wheels, gpu)
    print(markdown(report))
    sys.exit(0 if all(report["steps"][step.name]["passed"] for step in chosen) else 1)


def dry_run(steps: list[Step], chosen: list[Step]) -> bool:
    """Prints the chosen steps; whether every file that they need is there, or made by a step."""
    made = {path for step in steps for path in step.made}
    complete = True
    for step in chosen:
        print(f"{step.name}: {shlex.join(step.command)}")
        for path in step.inputs:
            state = "there" if path.exists() else "made by a step" if path in made else "MISSING"
            complete = complete and state != "MISSING"
            print(f"    {path}: {state}")
        for name in step.missing_here():
            print(f"    {name}: not installed here, so the step would be skipped")
    return complete


def run_steps(steps: list[Step], output: Path, wheels: Path | None, gpu: str) -> Report:
    """Runs steps, and writes the report behind each, so that nothing is lost."""
    path = output / "gpu_check.json"
    report: Report = json.loads(path.read_text()) if path.is_file() else {"steps": {}}
    for step in steps:
        print(f"gpu-check: {step.name} ...", file=sys.stderr, flush=True)
        report["steps"][step.name] = run_step(step, output, wheels)
        report |= {
            "gpu": gpu,
            "machine": platform.platform(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "revision": revision(),
        }
        path.write_text(json.dumps(report, indent=1))
        path.with_suffix(".md").write_text(markdown(report))
    return report


def run_step(step: Step, output: Path, wheels: Path | None) -> dict[str, Any]:
    """Runs one step: what it measured, and whether it passed, was skipped, or why it failed."""
    if wheels is not None:
        site.addsitedir(str(next(environment(output).glob("lib/python*/site-packages"), output)))
    missing = step.missing_here()
    if missing:
        return {"passed": True, "skipped": f"{', '.join(missing)} isn't installed"}
    absent = [str(path) for path in step.inputs if not path.exists()]
    if absent:
        return {"passed": False, "error": f"{absent[0]} is missing: run the step that makes it"}
    start = time.perf_counter()
    out, log = (output / f"{step.name}.{kind}" for kind in ("out", "log"))
    with out.open("w") as printed, log.open("w") as logged:
        try:
            code = subprocess.run(
                step.command,
                stdout=printed,
                stderr=logged,
                env=step_environment(output, wheels),
                timeout=SECONDS,
                check=False,
            ).returncode
            error = "" if code == 0 else f"exit code {code}: {log.read_text()[-4000:]}"
        except subprocess.TimeoutExpired:
            error = f"not done after {SECONDS} s"
        except OSError as failure:
            error = str(failure)
    rows = read_rows(out.read_text())
    if not error and rows and "skipped" in rows[-1]:
        return {"passed": True, "skipped": rows[-1]["skipped"]}
    passed = not error and all(row.get("passed", True) for row in rows)
    result: dict[str, Any] = {"passed": passed, "seconds": round(time.perf_counter() - start, 1)}
    if not passed:
        result["error"] = error or "a check failed"
    return result | {"rows": rows}


def read_rows(printed: str) -> list[dict[str, Any]]:
    """Lines of JSON, or one document with `checks`; a line that was cut off ends them."""
    try:
        document = json.loads(printed)
        return list(document.get("checks", [document])) if printed.strip() else []
    except json.JSONDecodeError:
        rows = []
        for line in printed.splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows


def step_environment(output: Path, wheels: Path | None) -> dict[str, str]:
    """This checkout's packages and libraries, and no network."""
    paths = [ROOT / "export", ROOT / "runtime", checkout_facts(output)]
    given = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        **cudnn_folder(output, wheels),
        "PYTHONPATH": os.pathsep.join([*map(str, paths), *([given] if given else [])]),
        "MAGVIT_LIBRARY_DIR": str(output / "cmake" / "lib"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels or output),
        "HF_HUB_OFFLINE": "1",
    }


def checkout_facts(output: Path) -> Path:
    """A folder that tells Python the version of this checkout, which need not be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    folder = output / "checkout"
    facts = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    facts.parent.mkdir(parents=True, exist_ok=True)
    facts.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


def cudnn_folder(output: Path, wheels: Path | None) -> dict[str, str]:
    """Where cuDNN's frontend finds cuDNN, if that isn't among the wheels but installed before."""
    if wheels is None:
        return {}
    sites = [*environment(output).glob("lib/python*/site-packages"), *map(Path, sys.path)]
    found = [site / "nvidia" / "cudnn" / "lib" for site in sites]
    folders = [str(folder) for folder in found if folder.is_dir()]
    given = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders[:1] + ([given] if given else []))}


def revision() -> str:
    """The commit of this checkout; "" without git."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def gpu_name() -> str | None:
    """Name, compute capability and driver of the first GPU; None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = "--query-gpu=name,compute_cap,driver_version"
    listing = subprocess.run(
        [tool, query, "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    lines = listing.stdout.splitlines()
    return lines[0] if listing.returncode == 0 and lines else None


if __name__ == "__main__":
    main()
