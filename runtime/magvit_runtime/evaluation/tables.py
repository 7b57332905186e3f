"""Evaluations as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from magvit_runtime.evaluation.class_tables import estimate_text
from magvit_runtime.evaluation.reconstruction import Reconstruction
from magvit_runtime.text_tables import render_table, text_table


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
        ("PSNR, dB", [estimate_text(result.psnr, 2) for result in results]),
        ("SSIM", [estimate_text(result.ssim, 4) for result in results]),
        ("codes used, %", [estimate_text(result.codes_used, 3, 100) for result in results]),
        ("token entropy, bits", [estimate_text(result.token_entropy, 2) for result in results]),
    ):
        table.add_row(label, *texts)
    for name in results[0].measures:
        table.add_row(name, *(estimate_text(result.measures[name], 4) for result in results))
    return render_table(table)
