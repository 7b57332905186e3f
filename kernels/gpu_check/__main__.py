"""`make gpu-check`: measures this project on the GPU of this machine, and compares its results.

    python kernels/gpu_check [--set first|second|all] [--wheels DIR] [--bundle DIR] [--output DIR]
    python kernels/gpu_check --only STEP ...
    python kernels/gpu_check --dry-run

Every step is a separate process with a budget of seconds, after which it is killed. It passes,
fails, or isn't run because something is missing; the next step runs in any case. Each measurement
is written to gpu_check.jsonl at once, and gpu_check.json and gpu_check.md are made from that file.
`--only` runs some steps again, on the files that the others left in the output folder. Nothing is
downloaded: missing packages can be given as a folder of wheels.

Exit code 0: all chosen steps have passed (with --dry-run: nothing that they need is missing); 1:
not so, or there is no GPU; 2: the arguments make no sense, or a wheel isn't for this Python.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dry_run import dry_run
from machine import gpu_facts
from running import run_steps
from steps import ROOT, Step, Workplace, first_set, second_set
from wheels import refusals


def main() -> None:
    """Runs the steps and writes gpu_check.jsonl, gpu_check.json and gpu_check.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=("first", "second", "all"), default="first")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="steps to run, of either set")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install for the run")
    parser.add_argument("--bundle", type=Path, help="bundle with fp32 and fp16 encoders")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu-check")
    parser.add_argument("--dry-run", action="store_true", help="print the steps and what they need")
    given = parser.parse_args()
    bundle, wheels = (
        None if path is None else path.resolve() for path in (given.bundle, given.wheels)
    )
    if wheels is not None and (wrong := refusals(wheels)):
        parser.error("\n".join(wrong))
    place = Workplace(given.output.resolve(), bundle, wheels)
    chosen = _choose(place, given.set, given.only)
    if unknown := sorted(set(given.only or ()) - {step.name for step in chosen}):
        parser.error(f"no step is named {', '.join(unknown)}: see --set all --dry-run")
    if given.dry_run:
        sys.exit(0 if dry_run(chosen, place) else 1)
    gpu = gpu_facts("name,compute_cap,driver_version")
    if gpu is None:
        sys.exit("gpu-check: no NVIDIA GPU on this machine (nvidia-smi finds none): not run")
    sys.exit(0 if run_steps(chosen, place, gpu) else 1)


def _choose(place: Workplace, name: str, only: Sequence[str] | None) -> list[Step]:
    first, second = first_set(place), second_set(place)
    if only is not None:
        return [step for step in (*first, *second) if step.name in only]
    return {"first": first, "second": second, "all": [*first, *second]}[name]


if __name__ == "__main__":
    main()
