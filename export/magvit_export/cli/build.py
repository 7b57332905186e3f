"""`magvit build`: an engine into the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from magvit_export.engines.options import BuildOptions
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import phase_progress

DEFAULT_OPTIONS = BuildOptions()


def build(
    bundle: Path,
    *,
    options: Annotated[BuildOptions, Parameter(name="*")] = DEFAULT_OPTIONS,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> Outcome:
    """Builds a TensorRT engine of a bundle's encoder or decoder, and puts it into the bundle.

    Args:
        bundle: Directory of the exported model.
        options: How it is built.
        dry_run: Only say what would be built.
    """
    from magvit_export.engines.build import build_engine
    from magvit_export.engines.planning import plan_build
    from magvit_export.engines.trial import try_engine
    from magvit_runtime.bundle.reading import open_bundle
    from magvit_runtime.hardware.machine import Machine

    opened = open_bundle(bundle)
    plan = plan_build(opened, options, Machine())
    key = plan.key
    facts = {"plan": str(plan.plan), "key": msgspec.to_builtins(key), "reason": plan.reason}
    (shapes,) = key.profiles[0].values()
    batches = (shapes.minimum[0], shapes.optimum[0], shapes.maximum[0])
    text = (
        f"{key.flavour} {key.version} ({plan.reason})\n"
        f"{key.precision}, compute capability {', '.join(key.sms)}, batch "
        f"{'/'.join(map(str, batches))} of {list(shapes.optimum[1:])}\n{plan.plan}"
    )
    if dry_run:
        return Outcome(facts | {"dry_run": True}, text + "\nnothing was built (--dry-run)")
    with phase_progress() as show:
        result = build_engine(opened, plan, lambda p: show(p.phase, p.step, p.steps))
    record = result.engine.record
    facts |= {
        "was_there": result.was_there,
        "seconds": record.build_seconds,
        "bytes": record.plan.size,
        "plugin_layers": record.plugin_layers,
        "layers": len(record.layers),
    }
    plugins = ", ".join(f"{count} {name}" for name, count in record.plugin_layers.items())
    text += f"\n{len(record.layers)} layers, of them our plugins: {plugins}"
    if result.was_there:
        return Outcome(facts, f"{text}\nalready there: nothing was built")
    text += f"\nbuilt in {record.build_seconds:.1f} s, {record.plan.size / 1e6:.0f} MB"
    trial = try_engine(opened, result.engine)
    facts["canary_outputs"] = trial.outputs
    if trial.outputs is None:
        return Outcome(facts, f"{text}\nnot tried: {trial.why_not}")
    return Outcome(facts, f"{text}\ntried: its outputs on the canary are {trial.outputs[:12]}")
