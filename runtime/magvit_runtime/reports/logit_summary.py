"""The table of a verification whose outputs are logits."""

from __future__ import annotations

from collections.abc import Iterable

from magvit_runtime.agreement import LOGIT_LIMITS
from magvit_runtime.agreement.logits import LogitAgreement
from magvit_runtime.reports.page import Cell, Section, Table
from magvit_runtime.reports.verdict_cells import verdict_cells
from magvit_runtime.verification.verifying import Verdict

COLUMNS = (
    *("Graphs", "Precision", "Verdict", "rms(e)/σ", "Limit", "max |e|/σ"),
    *("Other best value", "Beyond margin", "Divergence"),
)


def logit_summary(verdicts: Iterable[Verdict]) -> Section:
    """A row for each way to generate."""
    return Section(
        "Agreement by precision",
        "e is the error of teacher-forced logits in standard deviations σ of each choice's logits. "
        "Graphs agree if rms(e) is within their precision's limit, and no choice has another best "
        "value where the reference's best two are more than 10·rms(e) apart. The divergence is "
        "Kullback-Leibler's from the reference, in nats a choice.",
        Table(COLUMNS, [_row(verdict) for verdict in verdicts]),
    )


def _row(verdict: Verdict) -> list[Cell]:
    row, agreement = verdict_cells(verdict), verdict.agreement
    if not isinstance(agreement, LogitAgreement) or verdict.precision is None:
        return row + [Cell("", number=True)] * (len(COLUMNS) - len(row))
    limit = LOGIT_LIMITS[verdict.precision]
    outside = agreement.outside_margin
    return [
        *row,
        Cell(f"{agreement.rms:.1e}", "plain" if agreement.rms <= limit else "bad", number=True),
        Cell(f"{limit:.0e}", "quiet", number=True),
        Cell(f"{agreement.max:.1e}", number=True),
        Cell(f"{agreement.other_best:,} of {agreement.choices:,}", number=True),
        Cell(f"{outside:,}", "bad" if outside else "plain", number=True),
        Cell(f"{agreement.divergence:.1e}", number=True),
    ]
