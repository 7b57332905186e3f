"""`magvit verify`: do a bundle's graphs and engines agree with a reference, in tokens?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from magvit_runtime.bundle import Bundle, open_bundle
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.clip_sources import read_clips
from magvit_runtime.errors import InputError
from magvit_runtime.manifest import ParityMetrics
from magvit_runtime.parity import Agreement
from magvit_runtime.parity_stamps import graph_subject
from magvit_runtime.trajectories import ReadReport
from magvit_runtime.verification import (
    Clips,
    Reference,
    Verdict,
    graph_reference,
    verify_bundle,
)
from magvit_runtime.verification_clips import drawing_style
from magvit_runtime.weights_label import weights_label

CLIPS_AT_ONCE = 8


def verify(
    bundle: Path,
    *,
    against: str | None = None,
    weights: str | None = None,
    clips: Path | None = None,
    batch_sizes: str = "1,2",
    bisect: bool = False,
) -> Outcome:
    """Compares every graph and engine of a bundle that runs here with a reference, in tokens.

    All files are checked against their digests first. What passes gets a parity stamp in
    bundle.json, if all that runs here passes.

    Args:
        bundle: Directory of the exported model.
        against: `pytorch` (in float64, from the weights), `fp32` (the bundle's own float32 graph),
            or another bundle's directory. By default PyTorch where it is installed and the weights
            are at hand, else fp32.
        weights: What the bundle was made of, for PyTorch: a checkpoint, `hub`, `seeded` or
            `seeded:N`. Seeded bundles generate theirs.
        clips: More clips than the built-in ones: trajectories (.csv, .parquet, .npz), uint8 frames
            [N, T, H, W, 3] (.npy), or a video.
        batch_sizes: Clips at once, separated by commas; each size runs all clips.
        bisect: Find the modules at which each graph's error arises; against PyTorch only.
    """
    opened = open_bundle(bundle)
    sizes = _sizes(batch_sizes)
    if bisect and against not in (None, "pytorch"):
        raise InputError(
            "--bisect compares with PyTorch's modules",
            found=f"--against {against}",
            mend="leave --against out",
        )
    reference = _reference(opened, "pytorch" if bisect else against, weights)
    report = ReadReport()

    def extra(shape: tuple[int, ...]) -> Iterator[Clips]:
        return iter(()) if clips is None else _file_clips(clips, shape, report)

    with progress_bar("clips") as advance:
        result = verify_bundle(opened, reference, extra=extra, batch_sizes=sizes, advance=advance)
    lines = [
        f"{opened.manifest.model}, {weights_label(opened)}: all files as exported",
        f"reference: {reference.name}",
        *(_line(verdict) for verdict in result.verdicts),
    ]
    if not any(verdict.runs for verdict in result.verdicts):
        lines.append("nothing could be compared here")
    if report.counts:
        lines.append(report.summary())
    if result.stamped:
        lines.append(f"parity stamp in {bundle}: {', '.join(result.stamped)}")
    elif result.unstamped_because:
        lines.append(f"no parity stamp: {result.unstamped_because}")
    facts = {
        "bundle": str(bundle),
        "reference": reference.name,
        "batch_sizes": sizes,
        "encoders": [_facts(verdict) for verdict in result.verdicts],
        "passed": result.passed,
        "stamped": result.stamped,
        "unstamped_because": result.unstamped_because,
    }
    if bisect:
        from magvit_export.cli.bisection import bisection_facts, bisection_lines, run_bisection

        found = run_bisection(opened, weights)
        facts["bisection"] = bisection_facts(found)
        lines += bisection_lines(found)
    return Outcome(facts, "\n".join(lines), result.passed)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
        raise InputError(
            "--batch-sizes can't be read", found=text, expected="positive numbers, as 1,2"
        )
    return tuple(dict.fromkeys(int(size) for size in sizes))


def _reference(bundle: Bundle, against: str | None, weights: str | None) -> Reference:
    if against is None:
        at_hand = weights is not None or (bundle.is_seeded and find_spec("torch") is not None)
        against = "pytorch" if at_hand else "fp32"
    if against == "pytorch":
        from magvit_export.pytorch_reference import pytorch_reference

        return pytorch_reference(bundle, weights)
    if weights is not None:
        raise InputError(
            "only PyTorch takes weights",
            found=f"--against {against} --weights {weights}",
            mend="leave --weights out, or use --against pytorch",
        )
    if against == "fp32":
        bundle.encoder("fp32")  # Names what to export where there is none.
        return graph_reference(
            bundle, "its own fp32 graph in ONNX Runtime", subject=graph_subject("fp32")
        )
    return _other_bundle(bundle, Path(against))


def _other_bundle(bundle: Bundle, path: Path) -> Reference:
    if not path.is_dir():
        raise InputError(
            f"there is no reference {str(path)!r}",
            expected="fp32, pytorch, or a bundle's directory",
        )
    other = open_bundle(path)
    if other.manifest.tokens != bundle.manifest.tokens:
        raise InputError(
            f"the tokens of {path} are others than those of {bundle.path}",
            found=msgspec.to_builtins(other.manifest.tokens),
            expected=msgspec.to_builtins(bundle.manifest.tokens),
        )
    name = f"{other.encoder()[0]} graph of {other.manifest.model}, {weights_label(other)}"
    return graph_reference(other, f"{name}, in ONNX Runtime")


def _file_clips(path: Path, shape: tuple[int, ...], report: ReadReport) -> Iterator[Clips]:
    """The user's clips, trajectories drawn at the size that the graph takes."""
    style = drawing_style(shape)
    # Clips are read once for the reference and once for each encoder; problems count once.
    first_pass = ReadReport() if report.counts else report
    for batch in read_clips(path, style, first_pass, CLIPS_AT_ONCE):
        is_image = len(shape) == 3 and batch.frames.ndim == 5
        yield batch.ids, batch.frames[:, 0] if is_image else batch.frames


def _line(verdict: Verdict) -> str:
    name = f"{verdict.subject} ({verdict.precision})"
    if not verdict.runs:
        return f"{name}: can't run here: {verdict.why}"
    agreement = verdict.agreement
    if agreement is None:
        return f"{name}: FAILED: {verdict.why}"
    text = (
        f"{name}: {'agrees' if verdict.passed else 'DISAGREES'}; rms error "
        f"{agreement.rms:.1e} σ, {agreement.changed_tokens} of {agreement.tokens} tokens "
        f"changed, {agreement.outside_margin} bits outside the margin"
    )
    return text + (f", {agreement.wrong_ids} wrong ids" if agreement.wrong_ids else "")


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
    if verdict.agreement is not None:
        facts |= _measured(verdict.agreement)
    return facts


def _measured(agreement: Agreement) -> dict[str, Any]:
    facts = {name: getattr(agreement, name) for name in ParityMetrics.__struct_fields__}
    intervals = agreement.intervals
    return facts | {
        "bit_flip_rate": agreement.bit_flip_rate,
        "token_change_rate": agreement.token_change_rate,
        "worst_clip_rms": agreement.worst_clip_rms,
        "flips_by_margin": agreement.flips_by_margin,
        "intervals": None if intervals is None else asdict(intervals),
        "channel_rms": agreement.channels.rms.tolist(),
        "channel_flip_rate": agreement.channels.flip_rate.tolist(),
    }
