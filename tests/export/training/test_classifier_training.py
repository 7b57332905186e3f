"""Tokens and labels to a classifier in the bundle."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from magvit_export.training.classifier_training import train_classifier
from magvit_export.training.options import TrainingOptions
from magvit_export.training.splitting import split_by_class
from magvit_runtime import Classifier, Tokenizer, open_bundle
from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.bundle.reading import graph_sha256
from magvit_runtime.errors import BundleError, InputError
from magvit_runtime.quantizers.specs import LfqSpec
from magvit_runtime.results.token_files import TokenFileInfo, TokenTable

GRID = (2, 3, 4)
LFQ = LfqSpec(bits=18, bit_order="lsb-first")
INFO = TokenFileInfo("trajectory-small", "seeded", None, LFQ, GRID)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def separable_table(clips: int = 48, noise: float = 0.1) -> TokenTable:
    """Each class has a pattern of bits; a tenth of a clip's bits are flipped."""
    random = np.random.default_rng(0)
    names = ("circle", "line", "zigzag")
    patterns = random.integers(2, size=(3, *GRID, 18))
    classes = np.arange(clips) % 3
    flips = random.random((clips, *GRID, 18)) < noise
    bits = patterns[classes] ^ flips
    tokens = (bits << np.arange(18)).sum(axis=-1).astype(np.int32)
    labels = tuple(names[i] for i in classes)
    return TokenTable(INFO, tuple(f"clip{i}" for i in range(clips)), labels, tokens)


@pytest.mark.parametrize("embedding", ["bits", "factorized", "table"])
def test_a_separable_problem_is_learnt_and_exported(bundle: Path, embedding: str) -> None:
    # Tables know only ids that they were shown, so their clips differ less.
    table = separable_table(noise=0.1 if embedding == "bits" else 0.005)
    result = train_classifier(bundle, table, TrainingOptions(embedding))
    assert result.classes == ("circle", "line", "zigzag")
    assert len(result.held_out) == 12
    assert result.train_accuracy == 1
    assert result.held_out_accuracy == 1
    with Classifier.open(bundle) as classifier:
        found = classifier(table.tokens)
    assert found.classes == result.classes
    assert found.labels == table.labels
    assert found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-6)


def test_the_exported_classifier_equals_the_trained_one(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import magvit_export.training.classifier_training as training

    trained = []

    def remember(bundle, model, *rest):
        trained.append(model)
        return export(bundle, model, *rest)

    export = training.export_classifier
    monkeypatch.setattr(training, "export_classifier", remember)
    table = separable_table(noise=0.3)
    train_classifier(bundle, table, TrainingOptions(epochs=2))
    (model,) = trained
    with torch.no_grad():
        expected = model(torch.from_numpy(table.tokens)).softmax(dim=1).numpy()
    with Classifier.open(bundle) as classifier:
        for clips in (table.tokens, table.tokens[:1]):
            np.testing.assert_allclose(
                classifier(clips).probabilities, expected[: len(clips)], rtol=1e-4, atol=1e-6
            )


def test_the_bundle_gains_a_classifier_and_keeps_its_encoder(bundle: Path) -> None:
    before = open_bundle(bundle).manifest
    train_classifier(bundle, separable_table(), TrainingOptions())
    after = open_bundle(bundle).manifest
    assert after.graphs["encode"] == before.graphs["encode"]
    assert {name: after.files[name] for name in before.files} == before.files
    record = after.heads["classifier"]
    assert record.labels == ("circle", "line", "zigzag")
    assert record.embedding == "bits"
    assert (record.training["clips"], record.training["held_out_clips"]) == (36, 12)
    assert record.training["held_out_accuracy"] == 1
    assert record.graph == "classify"
    assert after.graphs["classify"]["fp32"].inputs[0].shape == ("batch", *GRID)
    assert record.trained_on == {
        "fp32": graph_sha256(open_bundle(bundle), after.graphs["encode"]["fp32"])
    }
    with Tokenizer.open(bundle) as tokenizer:
        assert tokenizer(np.zeros((1, 1, 8, 8, 3), np.uint8)).shape == (1, 1, 4, 4)
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_training_again_gives_the_same_bytes(bundle: Path) -> None:
    contents = []
    for _ in range(2):
        train_classifier(bundle, separable_table(), TrainingOptions(epochs=1, seed=3))
        contents.append({p.name: p.read_bytes() for p in bundle.glob("classify*")})
    assert len(contents[0]) == 3
    assert contents[0] == contents[1]


def test_classes_that_are_numbers_are_ordered_by_value(bundle: Path) -> None:
    table = separable_table()
    renamed = {"circle": "10", "line": "9", "zigzag": "other"}
    labels = tuple(renamed[label] for label in table.labels)
    table = TokenTable(INFO, table.ids, labels, table.tokens)
    assert train_classifier(bundle, table, TrainingOptions()).classes == ("9", "10", "other")


def test_clips_without_a_label_take_no_part(bundle: Path) -> None:
    table = separable_table()
    labels = tuple(None if i % 4 == 0 else label for i, label in enumerate(table.labels))
    table = TokenTable(INFO, table.ids, labels, table.tokens)
    result = train_classifier(bundle, table, TrainingOptions(holdout=0))
    assert result.train.tolist() == [i for i in range(48) if i % 4]
    assert len(result.held_out) == 0
    assert result.held_out_accuracy is None
    record = open_bundle(bundle).manifest.heads["classifier"]
    assert "held_out_accuracy" not in record.training


def test_the_split_keeps_each_class_s_share() -> None:
    targets = np.repeat([0, 1, 2, -1], [40, 20, 1, 7])
    rows = np.flatnonzero(targets >= 0)
    train, held_out = split_by_class(targets, rows, holdout=0.25, seed=0)
    assert Counter(targets[held_out].tolist()) == {0: 10, 1: 5}
    assert Counter(targets[train].tolist()) == {0: 30, 1: 15, 2: 1}
    assert sorted([*train, *held_out]) == rows.tolist()
    again = split_by_class(targets, rows, holdout=0.25, seed=0)
    np.testing.assert_array_equal(held_out, again[1])
    other = split_by_class(targets, rows, holdout=0.25, seed=1)
    assert held_out.tolist() != other[1].tolist()


def test_a_group_stays_on_one_side_of_the_split() -> None:
    groups = np.repeat(np.arange(20), 3)
    targets = np.repeat(np.arange(20) % 2, 3)
    train, held_out = split_by_class(targets, np.arange(60), 0.25, 0, groups)
    assert set(groups[train]).isdisjoint(groups[held_out])
    assert Counter(targets[held_out].tolist()) == {0: 6, 1: 6}
    assert sorted([*train, *held_out]) == list(range(60))
    # Rows that are alone are split as before there were groups.
    alone = split_by_class(targets, np.arange(60), 0.25, 0, np.arange(60))
    np.testing.assert_array_equal(alone[1], split_by_class(targets, np.arange(60), 0.25, 0)[1])


def test_views_of_a_trajectory_are_split_together_and_judged_together(bundle: Path) -> None:
    """A third view of each is noise; the other two outvote it."""
    table = separable_table()
    noise = np.random.default_rng(1).integers(0, 2**18, table.tokens.shape, np.int32)
    drawing = DrawingRecord({"height": 64}, "auto", {"kind": "pinhole"}, 3)
    views = TokenTable(
        msgspec.structs.replace(INFO, drawing=drawing),
        tuple(f"{name}@{view}" for name in table.ids for view in range(3)),
        tuple(label for label in table.labels for _ in range(3)),
        np.stack([table.tokens, table.tokens, noise], axis=1).reshape(-1, *GRID),
    )
    result = train_classifier(bundle, views, TrainingOptions())
    names = [name.partition("@")[0] for name in views.ids]
    train, held_out = ({names[row] for row in rows} for rows in (result.train, result.held_out))
    assert (len(train), len(held_out)) == (36, 12)
    assert not train & held_out
    assert result.held_out_accuracy == 1
    head = open_bundle(bundle).manifest.heads["classifier"]
    assert head.drawing == drawing
    assert head.training["views"] == 3
    with Classifier.open(bundle) as classifier:
        assert classifier.drawing == drawing


def test_one_clip_of_each_class_is_always_trained_on() -> None:
    targets = np.array([0, 0, 1, 1])
    train, held_out = split_by_class(targets, np.arange(4), holdout=0.99, seed=0)
    assert sorted(targets[train].tolist()) == [0, 1]
    assert sorted(targets[held_out].tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("info", "found"),
    [
        (TokenFileInfo("open-magvit2-video-128", "seeded", None, LFQ, GRID), "open-magvit2"),
        (TokenFileInfo("trajectory-small", "file a.ckpt", "0" * 64, LFQ, GRID), "file a.ckpt"),
    ],
    ids=["other model", "other weights"],
)
def test_tokens_of_something_else_are_refused(
    bundle: Path, info: TokenFileInfo, found: str
) -> None:
    table = separable_table()
    with pytest.raises(InputError) as error:
        train_classifier(
            bundle, TokenTable(info, table.ids, table.labels, table.tokens), TrainingOptions()
        )
    message = str(error.value)
    assert message.startswith(
        "these tokens were made by another model or other weights than this bundle's: found "
    )
    assert found in message
    assert message.endswith(f"Fix: magvit tokenize {bundle} …")


@pytest.mark.parametrize("labels", [None, "circle"], ids=["none", "one class"])
def test_labels_of_two_classes_are_needed(bundle: Path, labels: str | None) -> None:
    table = separable_table()
    table = TokenTable(INFO, table.ids, (labels,) * 48, table.tokens)
    with pytest.raises(InputError, match="training needs labels of two classes at least"):
        train_classifier(bundle, table, TrainingOptions())
    assert open_bundle(bundle).manifest.heads == {}


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        train_classifier(tmp_path, separable_table(), TrainingOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"holdout": 1.0}, "`holdout` is out of range: found 1.0, expected 0 ≤ … < 1"),
        ({"holdout": -0.1}, "`holdout` is out of range: found -0.1, expected 0 ≤ … < 1"),
        ({"width": 0}, "`width`, `epochs` or `learning_rate` is out of range"),
        ({"epochs": -1}, "`width`, `epochs` or `learning_rate` is out of range"),
        ({"learning_rate": float("nan")}, "`width`, `epochs` or `learning_rate` is out of range"),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError) as error:
        TrainingOptions(**options)
    assert str(error.value) == message
