"""`magvit doctor`: what this machine can run, and why not the rest."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from magvit_runtime.bundle import open_bundle
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.diagnosis import EngineHealth, Health, examine, examine_engines

PACKAGES = ("magvit-runtime", "numpy", "onnxruntime", "onnxruntime-gpu", "cuda-bindings", "torch")


def doctor(bundle: Path | None = None) -> Outcome:
    """Says what is installed here, what it can run, and what mends the rest.

    Args:
        bundle: A bundle whose engines are to be examined too.
    """
    health = examine()
    engines = [] if bundle is None else examine_engines(open_bundle(bundle))
    facts = msgspec.to_builtins(health) | {
        "packages": _packages(),
        "python": sys.version.split()[0],
    }
    if bundle is not None:
        facts["engines"] = msgspec.to_builtins(engines)
    text = "\n".join([*_machine_lines(health), *_engine_lines(engines)])
    return Outcome(facts, text, passed=all(engine.runs for engine in engines))


def _packages() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _machine_lines(health: Health) -> list[str]:
    lines = [
        f"python            {sys.version.split()[0]}",
        *(f"{name:17} {found or 'not installed'}" for name, found in _packages().items()),
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


def _engine_lines(engines: list[EngineHealth]) -> list[str]:
    lines = []
    for engine in engines:
        lines += ["", engine.plan, f"  {'runs here' if engine.runs else 'does not run here'}"]
        if engine.problem:
            lines.append(f"  {engine.problem}")
        if not engine.runs:
            lines.append(f"  to mend it: {engine.mend}")
    return lines
