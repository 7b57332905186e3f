"""The part of `magvit bench` that lets requests arrive by themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import msgspec

from magvit_runtime.backends.backend import Candidate
from magvit_runtime.benchmarks.benchmark import request_sets
from magvit_runtime.benchmarks.load_test import run_load_test
from magvit_runtime.benchmarks.objective import Objective, parse_objective
from magvit_runtime.benchmarks.results import Settings
from magvit_runtime.benchmarks.tables import load_text
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path

_RATE = re.compile(r"(\d+(?:\.\d+)?)(%?)")

Goal = Objective | Callable[[float], float]


def load_goal(rate: str | None, slo: str | None) -> Goal:
    """What a load test is for: an objective, or a rate as a function of the capacity.

    Raises:
        InputError: Both were given, or one can't be read.
    """
    if slo is not None:
        if rate is not None:
            raise InputError("--slo finds the rate", found=f"--rate {rate}", mend="leave one out")
        return parse_objective(slo)
    assert rate is not None
    found = _RATE.fullmatch(rate.strip())
    value = float(found[1]) if found else 0.0
    if found is None or value <= 0 or (found[2] and value >= 100):
        raise InputError(
            "--rate can't be read",
            found=repr(rate),
            expected="requests a second, as 12.5, or a share of the capacity below 100%, as 80%",
        )
    return (lambda capacity: capacity * value / 100) if found[2] else (lambda _: value)


def load_outcome(
    bundle: Bundle,
    option: Candidate,
    settings: Settings,
    batch: int,
    goal: Goal,
    seconds: float,
    output: Path | None,
) -> Outcome:
    """Runs the test with the first way to run the bundle; exit code 1 where an objective fails.

    Raises:
        InputError: The duration isn't positive.
        BackendError: The backend can't load it, or failed.
    """
    if not 0 < seconds <= 86_400:
        raise InputError("--duration is out of range", found=seconds, expected="0 to 86,400 s")
    writing = nullcontext() if output is None else atomic_path(output)
    with writing as partial:
        with progress_bar("requests") as advance:
            test = run_load_test(
                bundle,
                option,
                request_sets(bundle, settings, batch),
                threads=settings.threads,
                workers=max(settings.workers, default=1),
                goal=goal,
                seconds=seconds,
                advance=advance,
            )
        if partial is not None:
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(test), indent=1))
    lines = [load_text(test), *([f"{output} written"] if output else [])]
    passed = not isinstance(goal, Objective) or test.best_rate is not None
    return Outcome(msgspec.to_builtins(test), "\n".join(lines), passed=passed)
