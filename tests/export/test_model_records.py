"""Records of what was counted and verified of the models."""

from __future__ import annotations

from magvit_export.catalog import CATALOG
from magvit_export.model_records import (
    GraphFacts,
    RecordedVerdict,
    graph_facts,
    record_text,
    recorded_verdicts,
)
from magvit_export.model_tables import BACKENDS, PRECISIONS, verified_table


def test_every_verdict_is_of_a_graph_and_there_is_one_of_each() -> None:
    graphs = {(one.model, one.role) for one in graph_facts()}
    subjects = [one.subject for one in recorded_verdicts()]
    assert len(set(subjects)) == len(subjects)
    for model, role, precision, backend in subjects:
        assert (model, role) in graphs
        assert precision in PRECISIONS
        assert backend in BACKENDS


def test_every_verdict_says_what_was_measured_and_where() -> None:
    verdicts = recorded_verdicts()
    assert verdicts
    for one in verdicts:
        assert one.detail
        assert "PyTorch" in one.reference
        assert one.machine
        assert one.versions["magvit-runtime"]


def test_sizes_of_the_released_models() -> None:
    facts = {(one.model, one.role): one for one in graph_facts()}
    encoder = facts["open-magvit2-video-128", "encode"]
    assert [spec.shape for spec in encoder.inputs] == [(1, 17, 128, 128, 3)]
    assert [spec.shape for spec in encoder.outputs] == [(1, 5, 16, 16), (1, 18, 5, 16, 16)]
    # Counted by hand from the architecture: 144.9 M and 225.7 M weights, 2,235 and 3,096 GMAC.
    assert round(encoder.parameters / 1e6, 1) == 144.9
    assert round(encoder.flop / 2e9) == 2235
    decoder = facts["open-magvit2-video-128", "decode"]
    assert round(decoder.parameters / 1e6, 1) == 225.7
    assert round(decoder.flop / 2e9) == 3096
    # Each row of a codebook has 256 weights, which each token's latents are multiplied with.
    small, large = facts["ibq-1024", "encode"], facts["ibq-262144", "encode"]
    rows = 262144 - 1024
    assert large.parameters - small.parameters == 256 * rows
    assert large.flop - small.flop == 2 * 16 * 16 * 256 * rows
    assert {entry.name for entry in CATALOG if entry.config is not None} == {
        model for model, _ in facts
    }


def test_what_nobody_ran_is_called_so() -> None:
    graph = GraphFacts("image", "encode", (), (), 0, 0)

    def verdict(precision, backend, word) -> RecordedVerdict:
        return RecordedVerdict(
            "image", "encode", precision, backend, word, "", "PyTorch", "", "2026-11-26", {}
        )

    table = verified_table(
        [graph],
        [
            verdict("fp32", "native", "disagrees"),
            verdict("fp16", "native", "unfit"),
            verdict("fp32", "onnxruntime", "agrees"),
        ],
    )
    assert dict(zip(table.columns[2:], table.rows[0][2:], strict=True)) == {
        "fp32 onnxruntime": "agrees",
        "fp32 native": "disagrees",
        "fp16 onnxruntime": "not run",
        "fp16 native": "can't run",
    }


def test_a_record_has_a_line_of_its_own() -> None:
    text = record_text(graph_facts()[:2])
    assert len(text.splitlines()) == 4
    assert record_text(()) == "[\n\n]\n"
