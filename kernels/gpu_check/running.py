"""Runs steps, each within its budget, and records their output while they run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOBase
from pathlib import Path
from typing import Any

from journal import Journal, Line, State
from machine import run_facts
from needs import missing
from report import markdown
from steps import ROOT, Step, Workplace

# Takes each line of the journal.
Note = Callable[[Line], None]

# Seconds from the end of a step's time until it is killed.
SLACK_SECONDS = 5
_POLL_SECONDS = 0.1
_LOG_CHARACTERS = 2000


def run_steps(steps: Sequence[Step], place: Workplace, gpu: str) -> bool:
    """Runs steps and keeps journal and reports up to date; returns whether all passed.

    Args:
        steps: The steps, in their order.
        place: Where the files are.
        gpu: The GPU's name.
    """
    journal = Journal(place.output)

    def note(line: Line) -> None:
        journal.add(line)
        report = journal.report()
        (place.output / "gpu_check.json").write_text(json.dumps(report, indent=1) + "\n")
        (place.output / "gpu_check.md").write_text(markdown(report))

    note({"run": run_facts(gpu)})
    passed = True
    left = 0.0
    for step in steps:
        start = time.monotonic()
        passed = run_step(step, place, note, step.seconds + left) == "passed" and passed
        left = max(0.0, left + step.seconds - (time.monotonic() - start))
    print(markdown(journal.report()))
    return passed


def run_step(step: Step, place: Workplace, note: Note, seconds: float) -> State:
    """Runs one step: it passes, fails, or isn't run because something is missing.

    Args:
        step: The step.
        place: Where the files are.
        note: Called with each new fact, at once.
        seconds: Time after which it is killed: its budget, and the time that earlier steps left.
    """
    print(f"gpu-check: {step.name}, {seconds:.0f} s at most ...", file=sys.stderr, flush=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note({"step": step.name, "budget_seconds": step.seconds, "date": now})
    start = time.monotonic()
    state, reason = _outcome(step, place, note, seconds)
    took = round(time.monotonic() - start, 1)
    note({"step": step.name, "state": state, "reason": reason, "seconds": took})
    return state


def _outcome(step: Step, place: Workplace, note: Note, seconds: float) -> tuple[State, str]:
    """How a step ended, and why."""
    if lacking := "; ".join(missing(step, place.wheels)):
        return "not run", lacking
    out, log = (place.output / f"{step.name}.{kind}" for kind in ("out", "log"))
    rows: list[dict[str, Any]] = []
    # A file instead of a pipe: it outlives gpu-check, and no process that the step leaves running
    # can keep it open.
    with out.open("w") as printed, out.open() as reader, log.open("w") as logged:
        lines = _Lines(reader)
        deadline = time.monotonic() + seconds + SLACK_SECONDS
        try:
            process = subprocess.Popen(
                step.command,
                stdout=printed,
                stderr=logged,
                env=step_environment(place),
                start_new_session=True,
            )
        except OSError as error:
            return "failed", str(error)
        try:
            code = None
            while code is None and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                code = process.poll()
                for row in lines.new():
                    note({"step": step.name, "row": row})
                    rows.append(row)
        finally:
            with suppress(ProcessLookupError):  # Also compilers and workers that it started.
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    not_run = [row["not_run"] for row in rows if "not_run" in row]
    if code is None:
        return "failed", f"killed: not done after {seconds:.0f} s"
    if code != 0:
        last = log.read_text()[-_LOG_CHARACTERS:].strip()
        return "failed", f"exit code {code}: {last or 'see what it printed'}"
    if not_run:
        return "not run", "; ".join(not_run)
    if not all(row.get("passed", True) for row in rows):
        return "failed", "a check failed"
    return "passed", ""


class _Lines:
    """Reads lines of JSON from a file that grows."""

    def __init__(self, file: TextIOBase) -> None:
        self._file = file
        self._begun = ""

    def new(self) -> Iterator[dict[str, Any]]:
        """The objects of the lines that were finished since the last call."""
        *finished, self._begun = (self._begun + self._file.read()).split("\n")
        for line in finished:
            with suppress(json.JSONDecodeError):  # Libraries' output stays in the file.
                row = json.loads(line)
                if isinstance(row, dict):
                    yield row


def step_environment(place: Workplace) -> dict[str, str]:
    """The wheels' packages first, then this checkout's packages and libraries; no network."""
    paths = [] if place.wheels is None else [place.packages]
    paths += [ROOT / "export", ROOT / "runtime", _checkout_facts(place.output)]
    given = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*map(str, paths), *([given] if given else [])]),
        "PYTHONUNBUFFERED": "1",
        "MAGVIT_LIBRARY_DIR": str(place.build / "lib"),
        "PIP_NO_INDEX": "1",
        "HF_HUB_OFFLINE": "1",
    }
    cudnn = place.packages / "nvidia" / "cudnn" / "lib"
    if cudnn.is_dir():  # Its frontend looks for it where Python's own packages are, then here.
        given = os.environ.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = os.pathsep.join([str(cudnn), *([given] if given else [])])
    return environment


def _checkout_facts(output: Path) -> Path:
    """A folder that tells Python of this checkout what an installation would tell.

    That is its version, and the entry points by which families and backends are found.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    folder = output / "checkout"
    facts = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (facts / "METADATA").write_text(metadata)
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{point} = {value}" for point, value in points.items()))
    ]
    (facts / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
