"""`magvit refit`: new weights into a bundle's engines."""

from __future__ import annotations

from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import OwnBundle


def refit(bundle: OwnBundle) -> Outcome:
    """Gives engines that were built with --refit the weights of a new checkpoint, without a build.

    Export the checkpoint into the bundle first; it must differ from the old one in weights alone.

    Args:
        bundle: Directory of the exported model.
    """
    from magvit_export.engines.refitting import refit_engines
    from magvit_runtime.bundle.reading import open_bundle
    from magvit_runtime.hardware.machine import Machine

    lines, facts = [], []
    for done in refit_engines(open_bundle(bundle), Machine()):
        outputs = done.trial.outputs if done.trial else None
        facts.append(
            {
                "engine": done.name,
                "plan": str(done.engine.plan) if done.engine else None,
                "why_not": done.why_not or None,
                "canary_outputs": outputs,
            }
        )
        if done.engine is None:
            lines.append(f"{done.name}: left as it is, {done.why_not}")
            continue
        tried = f"its outputs on the canary are {outputs[:12]}" if outputs else "not tried"
        why = f" ({done.trial.why_not})" if done.trial and done.trial.why_not else ""
        lines.append(f"{done.name}: refitted as {done.engine.plan.name}; {tried}{why}")
    return Outcome({"engines": facts}, "\n".join(lines) or f"{bundle} has no engines")
