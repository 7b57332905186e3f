"""`magvit evaluate classes`, as a user runs it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from magvit_export.evaluation.model_choice import choose_model
from magvit_runtime.cli.main import main
from magvit_runtime.evaluation.class_results import Comparison, MethodResult
from magvit_runtime.evaluation.class_scores import Predictions, score_classes
from magvit_runtime.evaluation.class_tables import tables_of

SMALL = ("--frames", 3, "--height", 32, "--width", 32, "--net-steps", 20)
LINEAR = ("--heads", "linear")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in ("evaluate", "classes", *arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGVIT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def gestures(tmp_path: Path) -> Path:
    """Two classes of 12 movements by six people; two more have no label."""
    path = tmp_path / "gestures.csv"
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "x", "y", "label", "person"])
        for i in range(26):
            label = ["up", "down"][i % 2] if i < 24 else ""
            slope = -1 if label == "up" else 1
            for x in range(8):
                y = slope * x + rng.normal(0, 0.3)
                table.writerow([f"g{i}", x, y, label, f"p{i % 6}"])
    return path


def test_a_users_file_becomes_a_table_a_page_and_a_file(
    tiny_bundle: Path, gestures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, markdown = tmp_path / "results.json", tmp_path / "results.md"
    report = tmp_path / "results.html"
    code, out, _ = run(
        capsys,
        *(gestures, "--tokenizer", f"random={tiny_bundle}", "--folds", 3, *SMALL, *LINEAR),
        *("-o", output, "--markdown", markdown, "--report", report),
    )
    assert code == 0
    found: dict[str, Any] = json.loads(output.read_text())
    (comparison,) = found["comparisons"]
    assert found["schema_version"] == 1
    assert comparison["classes"] == ["down", "up"]
    assert len(comparison["tested"]) == 24
    tokens, near, net, both = comparison["methods"]
    assert both["name"] == f"{tokens['name']} + {net['name']}"
    assert tokens["is_generated"]
    assert "generated, never trained" in tokens["weights"]
    assert not near["is_generated"]
    assert near["scores"]["accuracy"]["value"] == pytest.approx(np.mean(near["right"])) == 1
    for text in (out, markdown.read_text(), report.read_text()):
        for line in (tokens["name"], near["name"], "generated weights"):
            assert line in text
    assert "100.0" in markdown.read_text()


def test_people_are_on_one_side_of_a_split(
    tiny_bundle: Path, gestures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = (
        gestures,
        "--tokenizer",
        f"random={tiny_bundle}",
        "--folds",
        3,
        *SMALL,
        *LINEAR,
        "--json",
    )
    groups = []
    for more in ((), ("--group", "person")):
        code, out, _ = run(capsys, *common, *more)
        assert code == 0
        row = json.loads(out)["comparisons"][0]["methods"][0]
        groups.append(row["scores"]["groups"])
    assert groups == [24, 6]


def test_generated_kinds_give_a_column_a_size_and_a_table_a_noise(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ("generated", "--tokenizer", f"random={tiny_bundle}", "--per-class", "4,8")
    made += ("--test-per-class", 5, "--noise", "0.01,0.3", "--kinds", "linear,circular")
    code, out, _ = run(capsys, *made, *SMALL, *LINEAR, "--json")
    assert code == 0
    comparisons = json.loads(out)["comparisons"]
    assert [(item["per_class"], item["trained_on"]) for item in comparisons] == [
        (4, 8),
        (8, 16),
    ] * 2
    assert all(len(item["tested"]) == 10 for item in comparisons)
    assert "framing each trajectory" in comparisons[0]["drawn"]
    assert [item["data"].split()[-1] for item in comparisons] == ["0.01", "0.01", "0.3", "0.3"]
    low, high = (comparisons[i]["methods"][2]["scores"]["brier"]["value"] for i in (1, 3))
    assert low != high
    code, out, _ = run(capsys, *made, *SMALL, *LINEAR)
    assert out.count("by trajectories a class to train on") == 2


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        ("libras", ("--views", 2)),
        ("libras", ("--group", "person")),
        ("generated", ("--columns", "id,x,y")),
        ("gestures.csv", ("--per-class", "4,8")),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    capsys: pytest.CaptureFixture[str], data: str, arguments: tuple[object, ...]
) -> None:
    code, _, error = run(capsys, data, *arguments)
    assert code == 2
    assert "has no use for" in error


@pytest.mark.parametrize("is_generated", [True, False])
def test_a_row_says_whether_its_weights_were_generated(is_generated: bool) -> None:
    scores = score_classes(
        Predictions(np.arange(2), np.eye(2)), np.arange(2), np.arange(2), ("a", "b")
    )
    row = MethodResult("tokens", "some weights", is_generated, scores, None, [1.0, 1.0], 0.0)
    comparison = Comparison("d", None, "", ["a", "b"], 1, "", ["t", "u"], [row])
    sized = msgspec.structs.replace(comparison, per_class=4)
    for table in tables_of([comparison]) + tables_of([sized]):
        for text in (table.text(), table.markdown()):
            assert ("generated weights" in text) is is_generated
            assert ("some weights" in text) is not is_generated


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tokenizer", "bundle"), "a model needs a name"),
        (("--heads=square",), "a head is unknown"),
        (("--folds", "20"), "folds"),
        (("--repeats", "0"), "`repeats` is out of range"),
        (("--ensemble", "a + b"), "can't be made"),
        (("--group", "nobody"), "no column 'nobody'"),
        (("--features", "no-such=seeded"), "no model is named"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tiny_bundle: Path,
    gestures: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    heads = () if "--heads=square" in arguments else LINEAR
    given = () if "--tokenizer" in arguments else ("--tokenizer", f"random={tiny_bundle}")
    code, _, error = run(capsys, gestures, *given, *SMALL, *heads, *arguments)
    assert code == 2
    assert message in error


def test_a_bundle_is_taken_as_it_is_and_weights_are_exported(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    chosen = choose_model(f"mine={tiny_bundle}", "encode", tmp_path / "none")
    assert chosen.bundle.path == tiny_bundle
    assert not (tmp_path / "none").exists()
