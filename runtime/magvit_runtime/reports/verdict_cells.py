"""The first cells of a row of any verification's table."""

from __future__ import annotations

from magvit_runtime.reports.page import Cell
from magvit_runtime.verification.verifying import Verdict


def verdict_cells(verdict: Verdict) -> list[Cell]:
    """What was verified, in which precision, and the verdict."""
    row = [Cell(verdict.subject), Cell(verdict.precision or "unknown")]
    if not verdict.runs:
        row.append(Cell(f"not compared: {verdict.why}", "quiet"))
    elif verdict.passed:
        row.append(Cell("agrees", "good"))
    else:
        row.append(Cell(f"failed: {verdict.why}" if verdict.why else "disagrees", "bad"))
    return row
