"""Evaluations as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from magvit_runtime.evaluation.reconstruction import Reconstruction
from magvit_runtime.text_tables import render_table, text_table
from magvit_runtime.types import Estimate


def reconstruction_table(names: Sequence[str], results: Sequence[Reconstruction]) -> str:
    """Reconstructions side by side, a column each.

    Args:
        names: What the columns are called.
        results: One a column, of the same clips and measures.
    """
    table = text_table("right", "reconstruction", ("", *names))
    for label, texts in (
        ("model", [result.model for result in results]),
        ("weights", [result.weights for result in results]),
        ("clips", [f"{result.clips:,}" for result in results]),
        ("tokens", [f"{result.tokens:,}" for result in results]),
        ("frames not given back", [f"{result.left_out_frames:,}" for result in results]),
        ("PSNR, dB", [_text(result.psnr, 2) for result in results]),
        ("SSIM", [_text(result.ssim, 4) for result in results]),
        ("codes used, %", [_text(result.codes_used, 3, 100) for result in results]),
        ("token entropy, bits", [_text(result.token_entropy, 2) for result in results]),
    ):
        table.add_row(label, *texts)
    for name in results[0].measures:
        table.add_row(name, *(_text(result.measures[name], 4) for result in results))
    return render_table(table)


def _text(estimate: Estimate, digits: int, scale: float = 1) -> str:
    value = f"{scale * estimate.value:.{digits}f}"
    if math.isnan(estimate.low):
        return value
    return f"{value} ({scale * estimate.low:.{digits}f} to {scale * estimate.high:.{digits}f})"
