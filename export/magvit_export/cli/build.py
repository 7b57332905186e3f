"""`magvit build`: an engine into the bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from magvit_export.engines.options import BuildOptions
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import OwnBundle
from magvit_runtime.cli.progress import phase_progress

if TYPE_CHECKING:
    from magvit_export.engines.planning import BuildPlan
    from magvit_runtime.bundle.reading import Bundle

DEFAULT_OPTIONS = BuildOptions()


def build(
    bundle: OwnBundle,
    *,
    options: Annotated[BuildOptions, Parameter(name="*")] = DEFAULT_OPTIONS,
    instances: Annotated[str | None, Parameter(name="--for")] = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> Outcome:
    """Builds a TensorRT engine of one of a bundle's graphs, and puts it into the bundle.

    Args:
        bundle: Directory of the exported model.
        options: How it is built.
        instances: Kinds of EC2 instances, as g5,g6,g6e: builds what each needs, and says what can't
            be built on this machine.
        dry_run: Only say what would be built.
    """
    from magvit_export.engines.instances import distinct_plans, plan_for_instances
    from magvit_export.engines.planning import plan_build
    from magvit_runtime.bundle.reading import open_bundle
    from magvit_runtime.hardware.machine import Machine

    opened = open_bundle(bundle)
    if instances is None:
        return _build(opened, plan_build(opened, options, Machine()), dry_run)
    targets = plan_for_instances(opened, options, Machine(), instances)
    built = {plan.plan: _build(opened, plan, dry_run) for plan in distinct_plans(targets)}
    lines = [
        f"{one.instance} ({one.gpu}, {one.sm}): "
        + (f"{one.plan.plan.name}, {one.why}" if one.plan else f"not built here: {one.why}")
        + (f". Fix: {one.fix}" if one.fix else "")
        for one in targets
    ]
    facts = [
        {
            "instance": one.instance,
            "gpu": one.gpu,
            "sm": one.sm,
            "plan": str(one.plan.plan) if one.plan else None,
            "why": one.why,
            "fix": one.fix or None,
        }
        for one in targets
    ]
    texts = [*lines, *("\n" + outcome.text for outcome in built.values())]
    return Outcome(
        {"instances": facts, "engines": [outcome.facts for outcome in built.values()]},
        "\n".join(texts),
        passed=all(one.plan for one in targets),
    )


def _build(bundle: Bundle, plan: BuildPlan, dry_run: bool) -> Outcome:
    from magvit_export.engines.build import build_engine
    from magvit_export.engines.trial import try_engine

    key = plan.key
    facts = {"plan": str(plan.plan), "key": msgspec.to_builtins(key), "reason": plan.reason}
    profiles = [next(iter(profile.values())) for profile in key.profiles]
    batches = ", ".join(
        f"{one.minimum[0]}/{one.optimum[0]}/{one.maximum[0]} of {list(one.optimum[1:])}"
        for one in profiles
    )
    text = (
        f"{key.flavour} {key.version} ({plan.reason})\n"
        f"{key.precision}, compute capability {', '.join(key.sms)}, batch {batches}\n{plan.plan}"
    )
    if dry_run:
        return Outcome(facts | {"dry_run": True}, text + "\nnothing was built (--dry-run)")
    with phase_progress() as show:
        result = build_engine(bundle, plan, lambda p: show(p.phase, p.step, p.steps))
    record = result.engine.record
    facts |= {
        "was_there": result.was_there,
        "seconds": record.build_seconds,
        "bytes": record.plan.size,
        "plugin_layers": record.plugin_layers,
        "layers": len(record.layers),
    }
    plugins = ", ".join(f"{count} {name}" for name, count in record.plugin_layers.items())
    text += f"\n{len(record.layers)} layers, of them our plugins: {plugins or 'none'}"
    if result.was_there:
        return Outcome(facts, f"{text}\nalready there: nothing was built")
    text += f"\nbuilt in {record.build_seconds:.1f} s, {record.plan.size / 1e6:.0f} MB"
    trial = try_engine(bundle, result.engine)
    facts["canary_outputs"] = trial.outputs
    if trial.outputs is None:
        return Outcome(facts, f"{text}\nnot tried: {trial.why_not}")
    return Outcome(facts, f"{text}\ntried: its outputs on the canary are {trial.outputs[:12]}")
