"""What `magvit verify --bisect` found, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from magvit_runtime.agreement import RMS_LIMITS
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.cli.progress import progress_bar

if TYPE_CHECKING:
    from magvit_export.verification.bisection import Bisection
    from magvit_export.verification.pytorch_reference import TorchRole
    from magvit_runtime.reports.verification_report import StageErrors


def run_bisection(bundle: Bundle, encoder: TorchRole) -> tuple[Bisection, ...]:
    """Bisects every graph of a bundle; see `bisect_bundle`."""
    from magvit_export.verification.bisection import bisect_bundle

    with progress_bar("modules") as advance:
        return tuple(bisect_bundle(bundle, encoder, advance))


def bisection_lines(found: Sequence[Bisection]) -> list[str]:
    """A table of errors by stage, and what it shows of each precision."""
    lines = []
    if ran := [one for one in found if not one.why_not]:
        lines += ["", *_table(ran), ""]
    for one in found:
        if one.why_not:
            lines.append(f"{one.precision}: can't run here: {one.why_not}")
        else:
            lines += _findings(one)
    return lines


def bisection_facts(found: Sequence[Bisection]) -> list[dict[str, Any]]:
    """The same as JSON-ready values."""
    return [asdict(one) | {"wrong": () if one.why_not else one.wrong} for one in found]


def stage_errors(found: Sequence[Bisection]) -> list[StageErrors]:
    """The accumulated errors after each module, for the report's plot; ids have none."""
    from magvit_runtime.reports.verification_report import StageErrors

    ran = [one for one in found if not one.why_not]
    return [
        StageErrors(
            row[0].module,
            {one.precision: stage.accumulated for one, stage in zip(ran, row, strict=True)},
        )
        for row in zip(*(one.stages[:-1] for one in ran), strict=True)
    ]


def _table(ran: Sequence[Bisection]) -> list[str]:
    width = max(len(stage.module) for stage in ran[0].stages)
    lines = [
        "rms error after each module, in σ of its values: from the frames on (its own alone)",
        " " * width + "".join(f"{one.precision:>20}" for one in ran),
    ]
    for row in zip(*(one.stages for one in ran), strict=True):
        cells = "".join(f"   {one.accumulated:.1e} ({one.own:.1e})" for one in row)
        lines.append(f"{row[0].module:{width}}{cells}")
    return lines


def _findings(found: Bisection) -> list[str]:
    name, limit = found.precision, RMS_LIMITS[found.precision]
    steps = ", ".join(
        f"{behind.module} (from {before.accumulated:.1e} to {behind.accumulated:.1e})"
        for before, behind in found.growth
    )
    lines = [f"{name}: the error grows most in {steps}"]
    if found.all_weights_differ:
        lines.append(
            f"{name}: every module with weights is WRONG: these are other weights than the "
            "reference's (raw instead of EMA, or another checkpoint)"
        )
    elif found.wrong:
        lines.append(f"{name}: WRONG by themselves: {', '.join(found.wrong)}")
    else:
        lines.append(
            f"{name}: no module is wrong by itself; {found.rms:.1e} of {limit:.0e} σ in all"
        )
    lines += [
        f"{name}: with {island.module} in float32 it would be {island.rms:.2e} instead of "
        f"{found.rms:.2e} σ"
        for island in found.islands
    ]
    return lines
