"""The model card says what the bundle says, and nothing that doesn't hold for its bytes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from runtime.stand_in_engines import write_engine

from magvit_export.publishing.card import model_card
from magvit_runtime import Bundle, open_bundle
from magvit_runtime.bundle.manifest import Head, ParityStamp, SignMetrics
from magvit_runtime.bundle.reading import graph_sha256
from magvit_runtime.hub.addresses import HubAddress

ADDRESS = HubAddress("me/model")
METRICS = SignMetrics(
    rms=1.25e-6,
    max=3e-5,
    bits=1000,
    flipped_bits=1,
    outside_margin=0,
    tokens=60,
    changed_tokens=1,
    wrong_ids=0,
)


def stamp(sha256: str) -> ParityStamp:
    return ParityStamp(
        sha256=sha256,
        reference="PyTorch float64",
        metrics=METRICS,
        clips_sha256="0" * 64,
        batch_sizes=(1, 2),
        versions={},
        machine="a CPU | with a bar",
        created="2026-11-27T10:00:00+00:00",
    )


def changed(bundle: Bundle, **changes: Any) -> Bundle:
    return Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, **changes))


def head(card: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found is not None
    return dict(yaml.safe_load(found[1]))


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n")[1].split("\n## ")[0].strip()


def rows(card: str, title: str) -> list[list[str]]:
    lines = [line for line in section(card, title).splitlines() if line.startswith("|")]
    return [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines[2:]]


def test_graphs_weights_and_opening_are_the_bundles(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    card = model_card(bundle, HubAddress("me/model", "v2", "small"), licence="mit")
    assert head(card) == {
        "license": "mit",
        "library_name": "magvit-runtime",
        "tags": ["onnx", "magvit", "tokenizer", "lfq"],
    }
    graphs = {(row[0], row[1]): row for row in rows(card, "Graphs")}
    assert set(graphs) == {("`encode`", "fp32"), ("`decode`", "fp32")}
    encode = graphs["`encode`", "fp32"]
    assert encode[2] == "frames: uint8 [batch, frames, height, width, 3] 0..255"
    assert encode[3].startswith("ids: int32 [batch, ")
    assert encode[5] == f"`{graph_sha256(bundle, bundle.graph('encode')[1])[:12]}`"
    assert 'Tokenizer.open("hf://me/model@v2/small")' in section(card, "Open it")
    assert "generated (seeded), never trained" in section(card, "Weights and licence")
    assert "Licence: mit." in section(card, "Weights and licence")
    assert "Nothing of it has been compared" in section(card, "Parity")
    assert head(model_card(bundle, ADDRESS))["license"] == "unknown"


def test_only_stamps_of_these_bytes_are_shown(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    digest = graph_sha256(bundle, bundle.graph("encode")[1])
    stamps = {"encode onnxruntime fp32": stamp(digest), "decode onnxruntime fp32": stamp("1" * 64)}
    (row,) = rows(model_card(changed(bundle, stamps=stamps), ADDRESS), "Parity")
    assert row == [
        "`encode`",
        "onnxruntime fp32",
        "PyTorch float64",
        "rms 1.25e-06, max 3e-05, bits 1000, flipped bits 1, outside margin 0, tokens 60, "
        "changed tokens 1, wrong ids 0",
        "a CPU \\| with a bar",
        "2026-11-27",
    ]


def test_engines_that_go_along_are_listed_with_their_stamps(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    engine = write_engine(tmp_path)
    bundle = changed(bundle, stamps={"encode engine.plan": stamp(engine.record.plan.sha256)})
    card = model_card(bundle, ADDRESS, [engine])
    assert rows(card, "Engines") == [["`engine.plan`", "tensorrt 1", "compute capability 8.9"]]
    assert [row[1] for row in rows(card, "Parity")] == ["engine.plan"]
    assert "tensorrt" in head(card)["tags"]
    without = model_card(bundle, ADDRESS)
    assert "engine.plan" not in without


def test_a_classifier_is_found_by_its_task(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    trained = Head("classify", ("up", "down"), "bits", {"clips": 12, "accuracy": 0.5}, {})
    card = model_card(changed(bundle, heads={"classifier": trained}), ADDRESS)
    assert head(card)["pipeline_tag"] == "video-classification"
    assert "`classifier` knows 2 classes: up, down. Training: clips 12, accuracy 0.5." in card


@pytest.mark.parametrize(
    ("fixture", "tag", "command"),
    [
        ("videomae_bundle", "feature-extraction", "magvit features hf://me/model"),
        ("clip_bundle", "image-feature-extraction", "magvit features hf://me/model"),
        ("ar_bundle", "unconditional-image-generation", "magvit generate hf://me/model"),
    ],
)
@pytest.mark.slow
def test_other_models_have_their_task_and_commands(
    fixture: str, tag: str, command: str, request: pytest.FixtureRequest
) -> None:
    card = model_card(open_bundle(request.getfixturevalue(fixture)), ADDRESS)
    assert head(card)["pipeline_tag"] == tag
    assert command in section(card, "Open it")
