"""`magvit verify`: do a bundle's encoders agree with its float32 encoder, in tokens?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from magvit_runtime.bundle import Bundle, open_bundle
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.engines.finding import find_engines
from magvit_runtime.errors import BackendError
from magvit_runtime.manifest import Precision
from magvit_runtime.parity import compare_latents
from magvit_runtime.sessions import Backend
from magvit_runtime.tokenizer import Tokenizer
from magvit_runtime.verification_clips import verification_clips
from magvit_runtime.weights_label import weights_label


def verify(bundle: Path) -> Outcome:
    """Compares every graph and engine of a bundle that runs here with its float32 graph.

    The clips are a drawn spiral, a flat background and noise. All files are checked against their
    digests first.

    Args:
        bundle: Directory of the exported model.
    """
    opened = open_bundle(bundle)
    for name in opened.manifest.files:
        opened.verified_file(name)
    lines = [f"{opened.manifest.model}, {weights_label(opened)}: all files as exported"]
    rows: list[dict[str, object]] = []
    with Tokenizer.open(bundle, precision="fp32", backend="onnxruntime") as tokenizer:
        clips = verification_clips(tokenizer.clip_shape)
        reference = tokenizer.latents(clips)
    for backend, precision in _candidates(opened):
        try:
            with Tokenizer.open(bundle, backend=backend, precision=precision) as tokenizer:
                agreement = compare_latents(tokenizer.latents(clips), reference)
        except BackendError as error:
            lines.append(f"{precision} on {backend}: can't run here: {error}")
            rows.append({"precision": precision, "backend": backend, "runs": False})
            rows[-1]["why"] = str(error)
            continue
        passed = agreement.passes(precision)
        row = {"precision": precision, "backend": backend, "runs": True, "passed": passed}
        rows.append(row | asdict(agreement))
        lines.append(
            f"{precision} on {backend}: {'agrees' if passed else 'DISAGREES'}; rms error "
            f"{agreement.rms:.1e} σ, {agreement.changed_tokens} of {agreement.tokens} tokens "
            f"changed, {agreement.outside_margin} bits outside the margin"
        )
    passed = all(row.get("passed", True) for row in rows)
    return Outcome(
        {"bundle": str(bundle), "encoders": rows, "passed": passed}, "\n".join(lines), passed
    )


def _candidates(bundle: Bundle) -> list[tuple[Backend, Precision]]:
    """What there is to compare: every graph but the reference, and every kind of engine."""
    found: list[tuple[Backend, Precision]] = [
        ("onnxruntime", precision) for precision in bundle.manifest.encoder if precision != "fp32"
    ]
    for engine in find_engines(bundle):
        candidate = (engine.record.key.flavour, engine.record.key.precision)
        if candidate not in found:
            found.append(candidate)
    return found
