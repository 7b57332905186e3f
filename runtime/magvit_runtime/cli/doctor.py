"""`magvit doctor`: what this machine can run, and why not the rest."""

from __future__ import annotations

import sys

import msgspec

from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import OptionalBundle
from magvit_runtime.doctor.diagnosis import Health, WayHealth, examine, examine_bundle
from magvit_runtime.errors import InputError
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.hardware.packages import installed_versions

PACKAGES = ("magvit-runtime", "numpy", "onnxruntime", "onnxruntime-gpu", "cuda-bindings", "torch")


def doctor(bundle: OptionalBundle = None, *, run: bool = False) -> Outcome:
    """Says what is installed here, what it can run, and what mends the rest.

    Args:
        bundle: A bundle whose graphs and engines are to be examined too.
        run: Open each of them, and run a clip that `magvit verify` kept with its outputs.
    """
    if run and bundle is None:
        raise InputError("--run tries a bundle", mend="magvit doctor BUNDLE --run")
    machine = Machine()
    health = examine(machine)
    ways = [] if bundle is None else examine_bundle(open_bundle(bundle), machine, run=run)
    facts = msgspec.to_builtins(health) | {
        "packages": installed_versions(PACKAGES),
        "python": sys.version.split()[0],
    }
    if bundle is not None:
        facts["ways"] = msgspec.to_builtins(ways)
    text = "\n".join([*_machine_lines(health), *_way_lines(ways)])
    # A graph that one backend can't run is no fault; an engine was built to be run, and what was
    # opened must give what the model gives.
    faulty = [way for way in ways if not way.runs and (way.is_engine or way.tried)]
    return Outcome(facts, text, passed=not faulty)


def _machine_lines(health: Health) -> list[str]:
    packages = installed_versions(PACKAGES)
    lines = [
        f"python            {sys.version.split()[0]}",
        *(f"{name:17} {found or 'not installed'}" for name, found in packages.items()),
        f"ORT providers     {', '.join(health.onnxruntime_providers) or 'none'}",
    ]
    if not health.gpus:
        lines.append("GPU               none (no nvidia-smi, no driver, or no device)")
    for gpu in health.gpus:
        lines.append(
            f"GPU               {gpu.name}, compute capability {gpu.sm}, driver {gpu.driver}, "
            f"{gpu.free_mib} of {gpu.memory_mib} MiB free"
        )
        if gpu.sm in health.rtx_refusals:
            lines.append(f"                  {health.rtx_refusals[gpu.sm]}")
    for flavour, state in health.flavours.items():
        lines.append(f"{flavour:17} {state}")
    library = health.plugin_library
    if library is None:
        lines.append("plugins           libmagvit_plugins.so is missing (docs/engines.md)")
    else:
        lines.append(f"plugins           {library.path}")
        lines.append(
            f"                  sha256 {library.sha256[:12]}, {', '.join(library.targets)}"
        )
    lines.append(f"CPU operators     {health.operators_library or 'missing'}")
    lines.append(f"native backend    {health.native_backend}")
    lines.append(f"native-cuda       {health.native_cuda}")
    return lines


def _way_lines(ways: list[WayHealth]) -> list[str]:
    lines = []
    for way in ways:
        lines += [
            "",
            f"{way.role} {way.subject}",
            f"  {'runs here' if way.runs else 'does not run here'}",
        ]
        if way.outputs:
            lines.append(f"  agrees with the canary; its outputs are {way.outputs[:12]}")
        if way.problem:
            lines.append(f"  {way.problem}")
        if way.mend:
            lines.append(f"  fix: {way.mend}")
    return lines
