"""`magvit train classifier`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runtime.magvit_process import done, done_json, failed

from magvit_runtime import open_bundle
from magvit_runtime.clips.generated import (
    GenerationOptions,
    generate_trajectories,
    write_generated,
)

TINY = {"ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "z_channels": 8}
STYLE = ("--height", "16", "--width", "16", "--frames", "3", "--margin", "4")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for name, seed in (("mine.csv", 0), ("new.csv", 1)):
        options = GenerationOptions(count=10, dimensions=3, kinds=("linear", "circular"), seed=seed)
        write_generated(folder / name, generate_trajectories(options), 3)
    (folder / "tiny.json").write_text(json.dumps(TINY))
    arguments = ("--config", "tiny.json", "--weights", "seeded", *STYLE, "--views", "2")
    done(
        *("train", "classifier", "mine.csv", "-o", "model", "--folds", "5", "--augment", "1"),
        *arguments,
        *("--report", "confusion.html"),
        cwd=folder,
    )
    return folder


def test_two_commands_go_from_trajectories_in_space_to_classes(trained: Path) -> None:
    facts = done_json("classify", "model", "new.csv", "-o", "predictions.csv", cwd=trained)
    assert facts["clips"] == facts["labelled"] == 20
    assert facts["views"] == 2
    assert facts["right"] > 15
    assert len((trained / "predictions.csv").read_text().splitlines()) == 21


def test_figures_lie_beside_the_bundle(trained: Path) -> None:
    figures = json.loads((trained / "model.metrics.json").read_text())
    measures = figures["measures"]
    assert figures["measured_on"] == "folds"
    assert len(figures["fold_accuracies"]) == 5
    assert sum(map(sum, measures["confusion"])) == measures["trajectories"] == 20
    low, high = measures["interval"]
    assert low < measures["accuracy"] < high or measures["accuracy"] == high == 1
    page = (trained / "confusion.html").read_text()
    assert "circular" in page
    assert "of 20" in page


def test_copies_are_trained_on_by_default_and_not_where_none_are_asked_for(
    trained: Path, tmp_path: Path
) -> None:
    arguments = ("--config", str(trained / "tiny.json"), "--weights", "seeded", *STYLE)
    command = ("train", "classifier", str(trained / "mine.csv"), *arguments)
    text = done(*command, "-o", "with", cwd=tmp_path)
    assert "hidden head, trained on varied copies of each trajectory too" in text
    training = open_bundle(tmp_path / "with").manifest.heads["classifier"].training
    assert (training["clips"], training["varied_clips"]) == (16, 20 * 12)
    # What runs the classifier natively agrees with ONNX Runtime on it.
    done("verify", "with", "--role", "classify", cwd=tmp_path)
    assert done_json(*command, "-o", "without", "--augment", "0", cwd=tmp_path)["head"] == "linear"
    assert "varied_clips" not in (
        open_bundle(tmp_path / "without").manifest.heads["classifier"].training
    )
    message = failed(2, *command, "-o", "none", "--augment", "-1", cwd=tmp_path)
    assert "--augment is out of range: found -1" in message


def test_tokens_are_trained_on_as_they_are(trained: Path) -> None:
    done("tokenize", "model", "mine.csv", "-o", "tokens.npz", *STYLE, cwd=trained)
    facts = done_json("train", "classifier", "model", "tokens.npz", cwd=trained)
    assert facts["head"] == "linear"
    assert (facts["clips"], facts["held_out_clips"]) == (16, 4)
    assert 0 <= facts["interval"][0] <= facts["accuracy"] <= facts["interval"][1] <= 1
    message = failed(2, "train", "classifier", "model", "tokens.npz", "--augment", "2", cwd=trained)
    assert "tokens and features are taken as they are: found --augment" in message
    message = failed(2, "train", "classifier", "model", cwd=trained)
    assert "nothing to train on" in message
    message = failed(2, "train", "classifier", "tokens.npz", cwd=trained)
    assert "tokens.npz is no bundle. Fix: magvit train classifier TRAJECTORIES.csv -o" in message
