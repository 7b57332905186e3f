"""The report of `magvit verify`: what was compared, its errors, and the flips that follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from magvit_runtime.agreement import (
    FEATURE_RMS_LIMITS,
    MARGIN,
    MARGIN_RMS_LIMITS,
    PIXEL_LIMITS,
    RMS_LIMITS,
)
from magvit_runtime.agreement.features import FeatureAgreement, least_cosine
from magvit_runtime.agreement.logits import LogitAgreement
from magvit_runtime.agreement.margins import MarginAgreement
from magvit_runtime.agreement.pixels import PixelAgreement
from magvit_runtime.agreement.signs import SignAgreement
from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.files.names import as_text
from magvit_runtime.reports.figures import grouped_bars, lines, ranges_with_limits
from magvit_runtime.reports.logit_summary import logit_summary
from magvit_runtime.reports.page import Cell, Page, Section, Table, render_page
from magvit_runtime.reports.verdict_cells import verdict_cells
from magvit_runtime.verification.verifying import Verdict, Verification

# Readers can't tell more bars than this apart.
_MOST_CLIPS = 40


@dataclass(frozen=True)
class StageErrors:
    """The errors at the end of one module.

    Attributes:
        name: Path of the torch module, as "encoder.down.0.block.1".
        rms: √mean(e²) of its output by precision, in standard deviations of the reference's output.
    """

    name: str
    rms: Mapping[str, float]


@dataclass(frozen=True)
class _Compared:
    """A verdict whose ids are signs of latents; it has further figures to show."""

    verdict: Verdict
    precision: Precision
    agreement: SignAgreement


def verification_report(
    bundle: Bundle, result: Verification, stages: Sequence[StageErrors] = ()
) -> str:
    """HTML of a verification's report, in one piece.

    Args:
        bundle: The bundle that was verified.
        result: The result.
        stages: Errors at the ends of the encoder's modules, in the order in which they run; if
            there are none, the report has no section about them.
    """
    compared = [
        _Compared(verdict, verdict.precision, verdict.agreement)
        for verdict in result.verdicts
        if isinstance(verdict.agreement, SignAgreement) and verdict.precision is not None
    ]
    kinds = {type(verdict.agreement) for verdict in result.verdicts}
    summary = _summary
    if PixelAgreement in kinds:
        summary = _pixel_summary
    elif FeatureAgreement in kinds:
        summary = _feature_summary
    elif LogitAgreement in kinds:
        summary = logit_summary
    sections = [summary(result.verdicts)]
    if compared:
        sections += [_limits(compared), _margins(compared), _clips(compared), _channels(compared)]
    if stages:
        sections.append(_stages(stages))
    page = Page(
        title=f"Parity of {bundle.manifest.model}",
        verdict=_verdict(result),
        facts=_facts(bundle, result),
        sections=sections,
    )
    return render_page(page)


def _verdict(result: Verification) -> Cell:
    if not any(verdict.runs for verdict in result.verdicts):
        return Cell("nothing could be compared here", "quiet")
    if result.passed:
        return Cell("all that was compared agrees", "good")
    return Cell("disagrees", "bad")


def _facts(bundle: Bundle, result: Verification) -> dict[str, str]:
    records = [verdict.record for verdict in result.verdicts if verdict.record is not None]
    versions = {name: version for record in records for name, version in record.versions.items()}
    stamps = ", ".join(result.stamped) or result.unstamped_because or "none"
    return {
        "Bundle": as_text(bundle.path),
        "Weights": weights_label(bundle),
        "Reference": result.reference,
        "Machine": "; ".join(dict.fromkeys(record.machine for record in records)) or "none used",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()) or "none",
        "Parity stamps": stamps,
        "Written": datetime.now(UTC).isoformat(sep=" ", timespec="seconds"),
    }


def _summary(verdicts: Iterable[Verdict]) -> Section:
    columns = (
        *("Graph or engine", "Precision", "Verdict", "rms(e)/σ", "Limit", "max |dz|"),
        *("Bits flipped", "Beyond margin", "Tokens changed", "Wrong ids", "Batches"),
    )
    return Section(
        "Agreement by precision",
        "e is the latents' error z − z_ref in units of their spread σ. A graph or engine agrees if "
        f"rms(e)/σ is within its precision's limit, every bit with |z_ref| > {MARGIN:.0f}·rms(e) "
        "is the reference's, and every id matches the bits of its own latents.",
        Table(columns, [_row(verdict, len(columns)) for verdict in verdicts]),
    )


def _pixel_summary(verdicts: Iterable[Verdict]) -> Section:
    columns = (
        *("Graph or engine", "Precision", "Verdict", "rms(e)", "Limit", "max |e|", "Limit"),
        *("Values changed", "Batches"),
    )
    return Section(
        "Agreement by precision",
        "e is a value's error in levels of 0 to 255. A graph or engine agrees if rms(e) and the "
        "largest |e| are within its precision's limits.",
        Table(columns, [_pixel_row(verdict, len(columns)) for verdict in verdicts]),
    )


def _pixel_row(verdict: Verdict, columns: int) -> list[Cell]:
    row, agreement, record = verdict_cells(verdict), verdict.agreement, verdict.record
    if not isinstance(agreement, PixelAgreement) or record is None or verdict.precision is None:
        return row + [Cell("", number=True)] * (columns - len(row))
    limits = PIXEL_LIMITS[verdict.precision]
    is_near, is_within = agreement.rms <= limits.rms, agreement.max <= limits.max
    return [
        *row,
        Cell(f"{agreement.rms:.2g}", "plain" if is_near else "bad", number=True),
        Cell(f"{limits.rms:g}", "quiet", number=True),
        Cell(f"{agreement.max}", "plain" if is_within else "bad", number=True),
        Cell(f"{limits.max}", "quiet", number=True),
        Cell(f"{agreement.changed_values:,} of {agreement.values:,}", number=True),
        Cell(", ".join(map(str, record.batch_sizes)), number=True),
    ]


def _feature_summary(verdicts: Iterable[Verdict]) -> Section:
    columns = (
        *("Graph or engine", "Precision", "Verdict", "rms(e)/rms", "Limit", "max |e|/rms"),
        *("1 − least cosine", "Limit", "Batches"),
    )
    return Section(
        "Agreement by precision",
        "e is a feature's error in units of the reference's rms. A graph or engine agrees if "
        "rms(e) and every item's cosine are within its precision's limits.",
        Table(columns, [_feature_row(verdict, len(columns)) for verdict in verdicts]),
    )


def _feature_row(verdict: Verdict, columns: int) -> list[Cell]:
    row, agreement, record = verdict_cells(verdict), verdict.agreement, verdict.record
    if not isinstance(agreement, FeatureAgreement) or record is None or verdict.precision is None:
        return row + [Cell("", number=True)] * (columns - len(row))
    limit, cosine = FEATURE_RMS_LIMITS[verdict.precision], least_cosine(verdict.precision)
    is_near, is_aligned = agreement.rms <= limit, agreement.least_cosine >= cosine
    return [
        *row,
        Cell(f"{agreement.rms:.1e}", "plain" if is_near else "bad", number=True),
        Cell(f"{limit:.0e}", "quiet", number=True),
        Cell(f"{agreement.max:.1e}", number=True),
        Cell(f"{1 - agreement.least_cosine:.1e}", "plain" if is_aligned else "bad", number=True),
        Cell(f"{1 - cosine:.0e}", "quiet", number=True),
        Cell(", ".join(map(str, record.batch_sizes)), number=True),
    ]


def _row(verdict: Verdict, columns: int) -> list[Cell]:
    row = verdict_cells(verdict)
    agreement, record = verdict.agreement, verdict.record
    empty = Cell("", number=True)
    if (
        not isinstance(agreement, SignAgreement | MarginAgreement)
        or record is None
        or verdict.precision is None
    ):
        return row + [empty] * (columns - len(row))
    signs = agreement if isinstance(agreement, SignAgreement) else None
    limit = (RMS_LIMITS if signs else MARGIN_RMS_LIMITS)[verdict.precision]
    return [
        *row,
        Cell(f"{agreement.rms:.1e}", "plain" if agreement.rms <= limit else "bad", number=True),
        Cell(f"{limit:.0e}", "quiet", number=True),
        Cell(f"{signs.max_latent_error:.1e}", number=True) if signs else empty,
        Cell(f"{signs.flipped_bits:,} of {signs.bits:,}", number=True) if signs else empty,
        _count(agreement.outside_margin),
        Cell(f"{agreement.changed_tokens:,} of {agreement.tokens:,}", number=True),
        _count(signs.wrong_ids) if signs else empty,
        Cell(", ".join(map(str, record.batch_sizes)), number=True),
    ]


def _count(mistakes: int) -> Cell:
    return Cell(f"{mistakes:,}", "bad" if mistakes else "plain", number=True)


def _limits(compared: Sequence[_Compared]) -> Section:
    drawn = [one for one in compared if np.isfinite(one.agreement.rms) and one.agreement.rms > 0]
    left_out = [one.verdict.subject for one in compared if one not in drawn]
    intervals = [one.agreement.intervals for one in drawn]
    figure = ranges_with_limits(
        "limits",
        [one.verdict.subject for one in drawn],
        [one.agreement.rms for one in drawn],
        [None if interval is None else interval.rms for interval in intervals],
        [RMS_LIMITS[one.precision] for one in drawn],
        value_name="rms(e)/σ, with its 95 % interval over clips",
        limit_name="limit of the precision",
    )
    text = "The latents' error, against the limit of their precision."
    if left_out:
        text += f" Not drawn, as it is zero or not finite: {', '.join(left_out)}."
    return Section("Error against its limit", text, figure=figure if drawn else None)


def _margins(compared: Sequence[_Compared]) -> Section:
    title = "Flips against margin"
    if not any(one.agreement.flipped_bits for one in compared):
        return Section(title, "No bit was flipped.")
    last = int(MARGIN)
    figure = grouped_bars(
        "margins",
        [f"{i} to {i + 1}" for i in range(last)] + [f"above {last}"],
        {one.verdict.subject: one.agreement.flips_by_margin for one in compared},
        x_title="margin |z_ref| / rms(e)",
        y_title="flipped bits",
    )
    text = (
        "How many typical errors, |z_ref|/rms(e), each flipped bit's latent was from zero. "
        f"Rounding flips only bits near zero; a flip above {last} fails."
    )
    return Section(title, text, figure=figure)


def _clips(compared: Sequence[_Compared]) -> Section:
    by_subject = {one.verdict.subject: one.agreement.clip_rms for one in compared}
    names = list(dict.fromkeys(name for clips in by_subject.values() for name in clips))
    text = "Flat clips show inexact GroupNorm statistics first, grey ones a wrong epsilon."
    if len(names) > _MOST_CLIPS:
        worst = {name: max(clips.get(name, 0) for clips in by_subject.values()) for name in names}
        names = sorted(names, key=lambda name: -worst[name])[:_MOST_CLIPS]
        text += f" Of {len(worst)} clips, these {_MOST_CLIPS} have the largest errors."
    series = {key: [clips.get(name) for name in names] for key, clips in by_subject.items()}
    figure = lines("clips", names, series, x_title="", y_title="rms(e)/σ", style="markers")
    return Section("Error by clip", text, figure=figure)


def _channels(compared: Sequence[_Compared]) -> Section:
    count = len(compared[0].agreement.channels.rms)
    figure = lines(
        "channels",
        [str(i) for i in range(count)],
        {one.verdict.subject: one.agreement.channels.rms.tolist() for one in compared},
        x_title="latent channel = bit of the id",
        y_title="rms(e)/σ",
        style="markers",
    )
    return Section(
        "Error by channel",
        "Channel 0 is the least significant bit. One channel far above the others points to the "
        "last convolution's weights.",
        figure=figure,
    )


def _stages(stages: Sequence[StageErrors]) -> Section:
    names = list(dict.fromkeys(name for stage in stages for name in stage.rms))
    figure = lines(
        "stages",
        [stage.name for stage in stages],
        {name: [stage.rms.get(name) for stage in stages] for name in names},
        x_title="",
        y_title="rms(e)/σ of the module's output",
    )
    return Section(
        "Error by stage",
        "The error after each module, from the input to the latents, in units of the spread of the "
        "module's right output. Precision is lost where the curve steps up.",
        figure=figure,
    )
