"""The report of `magvit verify` has the measured figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime.reports.html_reading import Element, outward_references, read_html

from magvit_runtime import bits_to_ids, open_bundle
from magvit_runtime.agreement.signs import SignAccumulator, SignAgreement
from magvit_runtime.bundle.manifest import ParityStamp, Precision, SignMetrics
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.reports.verification_report import StageErrors, verification_report
from magvit_runtime.verification.verifying import Verdict, Verification

STAGES = [
    StageErrors("encoder.conv_in", {"fp32": 1e-7, "fp16": 2e-4}),
    StageErrors("encoder.down.0.block.0", {"fp32": 3e-7, "fp16": 5e-4}),
]


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def agreement_of(error: float, *, mistakes: int = 0) -> SignAgreement:
    """Four clips with normal latents, off by normal errors; the first ids are mistaken."""
    random = np.random.default_rng(0)
    accumulator = SignAccumulator()
    for name in ("drawn", "noise", "grey", "black"):
        reference = random.standard_normal((1, 18, 5, 16, 16))
        latents = reference + error * random.standard_normal(reference.shape)
        ids = bits_to_ids(np.moveaxis(latents > 0, 1, -1))
        ids.flat[:mistakes] += 1
        accumulator.add(latents, reference, ids, [name])
    return accumulator.result()


def verdict(subject: str, precision: Precision, agreement: SignAgreement) -> Verdict:
    metrics = SignMetrics(
        **{name: getattr(agreement, name) for name in SignMetrics.__struct_fields__}
    )
    record = ParityStamp(
        sha256="0" * 64,
        reference="the reference",
        metrics=metrics,
        clips_sha256="0" * 64,
        batch_sizes=(1, 2, 8),
        versions={"onnxruntime": "1.32.0"},
        machine="a machine",
        created="today",
    )
    passed = agreement.passes(precision)
    return Verdict(
        subject, "onnxruntime", precision, True, passed, agreement=agreement, record=record
    )


def verification(*verdicts: Verdict) -> Verification:
    ran = [one for one in verdicts if one.runs]
    passed = bool(ran) and all(one.passed for one in ran)
    return Verification("the reference", verdicts, passed, (), "", canary=False)


def rows(document: Element) -> list[list[str]]:
    return [[cell.text for cell in row.find("td")] for row in document.find("tr")[1:]]


def traces(document: Element, name: str) -> list[dict[str, Any]]:
    """The data of a figure."""
    (script,) = [
        one.words for one in document.find("script") if f'getElementById("{name}")' in one.words
    ]
    start = script.index("[{", script.index("Plotly.newPlot"))
    drawn, _ = json.JSONDecoder().raw_decode(script, start)
    return list(drawn)


def test_the_figures_are_those_measured(bundle: Bundle) -> None:
    exact, half = agreement_of(1e-6), agreement_of(3e-3)
    assert half.flipped_bits > 10
    unfit = Verdict("engine.plan", "tensorrt", "fp16", False, False, why="GPU: built for NVIDIA L4")
    result = verification(
        verdict("onnxruntime fp32", "fp32", exact), verdict("onnxruntime fp16", "fp16", half), unfit
    )
    document = read_html(verification_report(bundle, result))
    assert outward_references(document) == []
    assert document.find("h1")[0].text == f"Parity of {bundle.manifest.model}"
    assert "all that was compared agrees" in document.find("header")[0].text
    assert "seeded weights (generated, never trained)" in document.find("header")[0].text
    first, second, third = rows(document)
    assert first == [
        *("onnxruntime fp32", "fp32", "agrees", f"{exact.rms:.1e}", "5e-05"),
        *(f"{exact.max_latent_error:.1e}", f"{exact.flipped_bits} of 92,160", "0"),
        *(f"{exact.changed_tokens} of 5,120", "0", "1, 2, 8"),
    ]
    assert second[6] == f"{half.flipped_bits} of 92,160"
    assert second[8] == f"{half.changed_tokens} of 5,120"
    assert third[2] == "not compared: GPU: built for NVIDIA L4"
    margins = {trace["name"]: trace["y"] for trace in traces(document, "margins")}
    assert margins["onnxruntime fp16"] == list(half.flips_by_margin)
    limits = traces(document, "limits")
    assert limits[0]["x"] == [exact.rms, half.rms]
    assert limits[1]["x"] == [5e-5, 8e-3]
    channels = {trace["name"]: trace["y"] for trace in traces(document, "channels")}
    assert channels["onnxruntime fp16"] == half.channels.rms.tolist()
    clips = traces(document, "clips")[1]
    assert dict(zip(clips["x"], clips["y"], strict=True)) == half.clip_rms


def test_a_failure_is_plain_to_see(bundle: Bundle) -> None:
    wrong = agreement_of(0.02, mistakes=7)
    broken = Verdict("onnxruntime fp16", "onnxruntime", "fp16", True, False, why="out of memory")
    result = verification(verdict("onnxruntime fp32", "fp32", wrong), broken)
    document = read_html(verification_report(bundle, result))
    (badge,) = [span for span in document.find("span") if "verdict" in span.attributes["class"]]
    assert badge.text == "disagrees"
    assert "bad" in badge.attributes["class"]
    bad = {cell.text for cell in document.find("td") if "bad" in cell.attributes["class"]}
    assert bad == {"disagrees", f"{wrong.rms:.1e}", str(7 * 4), "failed: out of memory"}


def test_nothing_compared(bundle: Bundle) -> None:
    unfit = Verdict("engine.plan", "tensorrt", "fp16", False, False, why="no GPU")
    document = read_html(verification_report(bundle, verification(unfit)))
    assert "nothing could be compared here" in document.find("header")[0].text
    assert [h2.text for h2 in document.find("h2")] == ["Agreement by precision"]


@pytest.mark.parametrize("error", [0.0, float("nan")])
def test_errors_that_no_logarithm_has(bundle: Bundle, error: float) -> None:
    result = verification(verdict("onnxruntime fp32", "fp32", agreement_of(error)))
    document = read_html(verification_report(bundle, result))
    assert "Not drawn, as it is zero or not finite: onnxruntime fp32" in document.text


def test_error_by_stage_is_there_where_it_was_measured(bundle: Bundle) -> None:
    result = verification(verdict("onnxruntime fp32", "fp32", agreement_of(1e-6)))
    without = read_html(verification_report(bundle, result))
    assert "Error by stage" not in [h2.text for h2 in without.find("h2")]
    document = read_html(verification_report(bundle, result, STAGES))
    assert "Error by stage" in [h2.text for h2 in document.find("h2")]
    drawn = traces(document, "stages")
    assert [trace["x"] for trace in drawn] == [["encoder.conv_in", "encoder.down.0.block.0"]] * 2
    assert {trace["name"]: trace["y"] for trace in drawn} == {
        "fp32": [1e-7, 3e-7],
        "fp16": [2e-4, 5e-4],
    }


def test_of_many_clips_the_worst_are_shown(bundle: Bundle) -> None:
    random = np.random.default_rng(0)
    accumulator = SignAccumulator()
    for i in range(60):
        reference = random.standard_normal((1, 18, 1, 4, 4))
        latents = reference + i * 1e-7 * random.standard_normal(reference.shape)
        accumulator.add(latents, reference, names=[f"clip {i}"])
    result = verification(verdict("onnxruntime fp32", "fp32", accumulator.result()))
    document = read_html(verification_report(bundle, result))
    assert "Of 60 clips, these 40 have the largest errors." in document.text
    (clips,) = traces(document, "clips")
    assert len(clips["x"]) == 40
    assert clips["x"][0] in {"clip 59", "clip 58", "clip 57"}
    assert "clip 3" not in clips["x"]
