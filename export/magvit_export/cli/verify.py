"""`magvit verify`: do a bundle's graphs and engines agree with a reference?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from magvit_export.cli.bisection import (
    bisection_facts,
    bisection_lines,
    run_bisection,
    stage_errors,
)
from magvit_export.verification.clips import file_clips, movement_clips
from magvit_export.verification.reference_cache import ReferenceType
from magvit_export.verification.references import find_reference
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.cli.numbers import positive_numbers
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import BundleArgument
from magvit_runtime.cli.progress import estimated_progress
from magvit_runtime.cli.videos import is_video, with_video
from magvit_runtime.clips.samples import usual_shape
from magvit_runtime.clips.trajectories import ReadReport
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.hub.addresses import is_address
from magvit_runtime.hub.fetching import local_folder
from magvit_runtime.reports import check_report_packages
from magvit_runtime.verification.generation import ROLES as GENERATING_ROLES
from magvit_runtime.verification.generation import LogitReference, verify_generation
from magvit_runtime.verification.references import Clips, Reference
from magvit_runtime.verification.verifying import Verdict, verify_bundle


def verify(
    bundle: BundleArgument,
    *,
    role: Role | None = None,
    against: str | None = None,
    weights: str | None = None,
    reference: ReferenceType | None = None,
    clips: Path | None = None,
    batch_sizes: str | None = None,
    thorough: bool = False,
    bisect: bool = False,
    report: Path | None = None,
) -> Outcome:
    """Compares every graph and engine of a bundle that runs here with a reference.

    Encoders are compared in tokens, decoders in levels of their pixels, features in units of their
    rms, classifiers in the logarithms of probabilities, models that generate in logits of given
    tokens.

    All files are checked against their digests first. What passes gets a parity stamp in
    bundle.json, if all that runs here passes.

    Args:
        bundle: Directory of the exported model, or hf://OWNER/NAME@REVISION on the hub.
        role: What they do: encode, decode, features, classify (ids to classes) or classify-clips
            (clips to classes); context or subtokens are the two graphs that generate, which are
            compared together. By default encode, or those two.
        against: `pytorch` (from the weights), `fp32` (the bundle's own float32 graph),
            another bundle's directory or address on the hub, or an .npz file with clips and their
            latents. By default PyTorch where it is installed and the weights are at hand, else
            fp32.
        weights: What the bundle was made of, for PyTorch: a checkpoint, `hub`, `trained`, `seeded`
            or `seeded:N`. Seeded weights, and those that ship with this package, are found.
        reference: What PyTorch computes in: `float64`, `float32`, or `auto`, which is float64 for
            items of up to 0.5 TFLOP, or for all on a GPU. Its outputs are kept in the user's cache
            folder (`MAGVIT_CACHE_DIR`), by weights, clips and code.
        clips: More clips than the built-in ones: trajectories (.csv, .parquet, .npz), uint8 frames
            [N, T, H, W, 3] (.npy), or a video.
        batch_sizes: Clips at once, separated by commas; each size runs all clips. By default the
            smallest, best and largest batch of an engine's profile, and 1 and 2 for a graph.
        thorough: Run all built-in clips at the model's own size too, in all batch sizes. Models of
            over 1 TFLOP a clip run a few there, one at a time, and all at a small odd size.
        bisect: Find the modules at which each encoder's error arises; against PyTorch only.
        report: An HTML file to write: plots and tables of what was measured.
    """
    if report is not None:
        check_report_packages()
    others = (Path(name) for name in (against, weights) if name)
    check_outputs(report, inputs=(bundle, clips, *others))
    opened = open_bundle(bundle)
    if against is not None and is_address(against):
        against = str(local_folder(against))
    sizes = None if batch_sizes is None else positive_numbers("--batch-sizes", batch_sizes)
    if role is None:
        role = "encode" if opened.manifest.generation is None else "context"
    takes_clips = opened.graph(role)[1].inputs[0].kind == "pixels"
    if (bisect and role != "encode") or (clips is not None and not takes_clips):
        raise InputError(
            "only encoders can be bisected, and only they and features take clips",
            found=f"--role {role}",
            mend="leave --bisect and --clips out",
        )
    if bisect and against not in (None, "pytorch"):
        raise InputError(
            "--bisect compares with PyTorch's modules",
            found=f"--against {against}",
            mend="leave --against out",
        )
    if bisect and reference == "float32":
        raise InputError(
            "--bisect compares in float64",
            found=f"--reference {reference}",
            mend="leave --reference out",
        )
    compared: Reference | LogitReference
    if bisect:
        from magvit_export.verification.bisection import check_cuts
        from magvit_export.verification.pytorch_reference import pytorch_reference, pytorch_role

        encoder = pytorch_role(opened, "encode", weights)
        check_cuts(opened, encoder)
        compared = pytorch_reference(opened, encoder)
    elif role in GENERATING_ROLES and opened.manifest.generation is not None:
        from magvit_export.verification.generation_reference import find_logit_reference

        if sizes is not None:
            raise InputError(
                "graphs that generate are compared one image at a time",
                found=f"--batch-sizes {batch_sizes}",
                mend="leave --batch-sizes out",
            )
        compared = find_logit_reference(opened, against, weights, reference)
    else:
        compared = find_reference(opened, against, weights, role, reference)
    if clips is not None and isinstance(compared, Reference) and compared.clips is not None:
        raise InputError(
            f"{against} has latents of its own clips only",
            found=f"--clips {clips}",
            mend="leave --clips out, or use another reference",
        )
    problems, video = ReadReport(), VideoReport()
    if clips is not None:  # What can't be read is refused before the work.
        shape = usual_shape(opened.graph(role)[1].inputs[0].shape[1:])
        next(file_clips(clips, shape, ReadReport(), VideoReport()), None)

    def extra(shape: tuple[int, ...], few: bool) -> Iterator[Clips]:
        if not takes_clips:
            return
        yield from movement_clips(shape, few)
        if clips is not None:
            yield from file_clips(clips, shape, problems, video)

    # Its file is opened before hours of work, so that none are spent on what can't be written.
    writing = nullcontext() if report is None else atomic_path(report)
    with writing as partial:
        with estimated_progress("verifying") as (start, advance):
            if isinstance(compared, LogitReference):
                result = verify_generation(opened, compared, start=start, advance=advance)
            else:
                result = verify_bundle(
                    opened,
                    compared,
                    role=role,
                    extra=extra,
                    batch_sizes=sizes,
                    thorough=thorough,
                    start=start,
                    advance=advance,
                )
        bisections = run_bisection(opened, encoder) if bisect else ()
        if partial is not None:
            from magvit_runtime.reports.verification_report import verification_report

            stages = stage_errors(bisections)
            partial.write_text(verification_report(opened, result, stages), encoding="utf-8")
    note = compared.note() if isinstance(compared, Reference) else ""
    lines = [
        f"{opened.manifest.model}, {weights_label(opened)}: all files as exported",
        f"reference: {result.reference}",
        *([note] if note else []),
        *(_line(verdict) for verdict in result.verdicts),
    ]
    if not any(verdict.runs for verdict in result.verdicts):
        lines.append("nothing could be compared here")
    if problems.counts:
        lines.append(problems.summary())
    if result.stamped:
        lines.append(f"parity stamp in {bundle}: {', '.join(result.stamped)}")
    elif result.unstamped_because:
        lines.append(f"no parity stamp: {result.unstamped_because}")
    if result.canary:
        lines.append(f"canary in {bundle}: for `magvit doctor --run` and canary=True")
    if report is not None:
        lines.append(f"report: {report}")
    facts = {
        "bundle": str(bundle),
        "role": role,
        "reference": result.reference,
        "reference_note": note or None,
        "encoders": [_facts(verdict) for verdict in result.verdicts],
        "passed": result.passed,
        "stamped": result.stamped,
        "unstamped_because": result.unstamped_because,
        "canary": result.canary,
        "report": None if report is None else str(report),
    }
    if bisect:
        facts["bisection"] = bisection_facts(bisections)
        lines += bisection_lines(bisections)
    outcome = Outcome(facts, "\n".join(lines), result.passed)
    return with_video(outcome, "drop", video) if clips and is_video(clips) else outcome


def _line(verdict: Verdict) -> str:
    name = f"{verdict.subject} ({verdict.precision or 'unknown precision'})"
    if not verdict.runs:
        return f"{name}: can't be compared here: {verdict.why}"
    agreement = verdict.agreement
    if agreement is None:
        return f"{name}: FAILED: {verdict.why}"
    return f"{name}: {'agrees' if verdict.passed else 'DISAGREES'}; {agreement.summary}"


def _facts(verdict: Verdict) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "subject": verdict.subject,
        "precision": verdict.precision,
        "backend": verdict.backend,
        "runs": verdict.runs,
        "why": verdict.why,
    }
    if verdict.runs:
        facts["passed"] = verdict.passed
    if verdict.record is not None:
        facts["batch_sizes"] = verdict.record.batch_sizes
    if verdict.agreement is not None:
        facts |= verdict.agreement.facts
    return facts
