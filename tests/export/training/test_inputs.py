"""Files of tokens and features as what a classifier learns from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from magvit_export.training.classifier_training import train_classifier
from magvit_export.training.inputs import join_tables, read_table
from magvit_export.training.options import TrainingOptions
from magvit_export.training.sources import Features, Tokens
from magvit_runtime import Classifier, FeatureClassifier, FeatureExtractor, open_bundle
from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.errors import BundleError, InputError
from magvit_runtime.quantizers.specs import LfqSpec
from magvit_runtime.results.feature_files import FeatureFileInfo, FeatureTable, feature_writer
from magvit_runtime.results.token_files import TokenFileInfo, TokenTable, token_writer

LFQ = LfqSpec(bits=18, bit_order="lsb-first")
INFO = TokenFileInfo("trajectory-small", "seeded", None, LFQ, (1, 2, 2))
FEATURES = FeatureFileInfo("videomae-base", "file a", "0" * 64, (3,), "mean")
IDS = tuple(f"clip{i}" for i in range(24))
LABELS = tuple(("a", "b")[i % 2] for i in range(24))


def tokens(ids: tuple[str, ...] = IDS, labels: tuple[str | None, ...] = LABELS) -> TokenTable:
    places = np.array([IDS.index(name.partition("@")[0]) for name in ids])
    values = np.repeat(places, 4).reshape(-1, 1, 2, 2).astype(np.int32)
    return TokenTable(INFO, ids, labels, values)


def features(ids: tuple[str, ...] = IDS, labels: tuple[str | None, ...] = LABELS) -> FeatureTable:
    places = np.array([IDS.index(name) for name in ids])
    return FeatureTable(FEATURES, ids, labels, np.stack([places] * 3, axis=1).astype(np.float32))


def test_sources_are_joined_by_id_in_whatever_order_they_are() -> None:
    joined = join_tables([tokens(), features(IDS[::-1], LABELS[::-1])])
    assert joined.ids == IDS
    first, second = joined.sources
    assert isinstance(first, Tokens)
    assert isinstance(second, Features)
    np.testing.assert_array_equal(first.ids[:, 0, 0, 0], second.values[:, 0])
    assert joined.notes == ()
    assert joined.labels == LABELS


def test_what_one_source_lacks_is_left_out_and_said() -> None:
    joined = join_tables([tokens(), features(IDS[5:], (None,) * 19)], ["a.npz", "b.npz"])
    assert joined.ids == IDS[5:]
    assert joined.labels == LABELS[5:]
    note = "b.npz lacks 5 of 24 clips, which are left out: clip0, clip1, clip2, …"
    assert joined.notes == (note,)


def test_sources_without_a_common_clip() -> None:
    other = replace(features(), ids=tuple(f"x{i}" for i in range(24)))
    with pytest.raises(InputError, match=r"no clip in common: found a: clip0, clip1, clip2; b: x0"):
        join_tables([tokens(), other], ["a", "b"])


def test_sources_that_differ_in_a_label() -> None:
    other = features(labels=(*LABELS[:-1], "c"))
    with pytest.raises(InputError, match=r"b has another label than a for 'clip23'"):
        join_tables([tokens(), other], ["a", "b"])


def test_ids_that_come_twice_can_t_be_joined() -> None:
    twice = tokens((*IDS[:-1], IDS[0]))
    with pytest.raises(InputError, match="a has an id more than once"):
        join_tables([twice, features()], ["a", "b"])
    assert len(join_tables([twice]).ids) == 24


def test_views_of_a_trajectory_are_a_group() -> None:
    drawing = DrawingRecord({"height": 64}, "auto", None, 2)
    table = features()
    ids = tuple(f"t{i // 2}@{i % 2}" for i in range(24))
    seen = replace(table, ids=ids, info=msgspec.structs.replace(FEATURES, drawing=drawing))
    assert join_tables([seen]).groups.tolist() == [i // 2 for i in range(24)]
    assert join_tables([table]).groups.tolist() == list(range(24))


def test_clips_of_several_lengths_are_refused() -> None:
    info = msgspec.structs.replace(INFO, grid=(2, 1, 1))
    values = np.array([[[[1]], [[2]]], [[[3]], [[-1]]]], np.int32)
    table = TokenTable(info, ("a", "b"), ("x", "y"), values, (2, 1))
    with pytest.raises(InputError, match=r"clips of several lengths.*found 1 to 2 steps of time"):
        join_tables([table])


def test_a_file_is_of_tokens_or_of_features(
    tiny_bundle: Path, clip_bundle: Path, tmp_path: Path
) -> None:
    with token_writer(tmp_path / "t.parquet", open_bundle(tiny_bundle)) as writer:
        writer.write(("a",), ("x",), np.ones((1, 1, 2, 2), np.int32))
    with feature_writer(tmp_path / "f.npz", open_bundle(clip_bundle), "mean") as writer:
        writer.write(("a",), ("x",), np.ones((1, 24), np.float32))
    assert isinstance(read_table(tmp_path / "t.parquet"), TokenTable)
    assert isinstance(read_table(tmp_path / "f.npz"), FeatureTable)
    (tmp_path / "other.npz").write_bytes(b"no")
    with pytest.raises(InputError, match="is no token file"):
        read_table(tmp_path / "other.npz")


def feature_table(bundle: Path, clips: np.ndarray) -> FeatureTable:
    manifest = open_bundle(bundle).manifest
    weights = manifest.component.weights
    with FeatureExtractor.open(bundle) as extractor:
        found = extractor(clips, "mean")
    info = FeatureFileInfo(manifest.model, weights.name, weights.sha256, found.shape[1:], "mean")
    return FeatureTable(info, IDS, LABELS, found)


def test_a_classifier_of_features_lives_in_their_model_s_bundle(
    clip_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(clip_bundle, tmp_path / "bundle"))
    random = np.random.default_rng(0)
    bright = 120 * (np.arange(24) % 2).reshape(-1, 1, 1, 1)
    clips = (bright + random.integers(0, 100, (24, 32, 32, 3))).astype(np.uint8)
    table = feature_table(bundle, clips)
    result = train_classifier(bundle, table, TrainingOptions())
    assert result.held_out_accuracy == 1
    with FeatureClassifier.open(bundle) as classifier:
        assert classifier.pool == "mean"
        assert classifier(table.features).labels == LABELS
    with pytest.raises(BundleError, match=r"takes something else: found features, expected ids"):
        Classifier.open(bundle)
    assert open_bundle(bundle).manifest.heads["classifier"].embedding is None


def test_a_classifier_of_two_sources_is_a_graph_of_two_inputs(
    tiny_bundle: Path, clip_bundle: Path, tmp_path: Path
) -> None:
    import onnxruntime

    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    random = np.random.default_rng(0)
    bright = 120 * (np.arange(24) % 2).reshape(-1, 1, 1, 1)
    clips = (bright + random.integers(0, 100, (24, 32, 32, 3))).astype(np.uint8)
    noise = replace(tokens(), tokens=random.integers(2**18, size=(24, 1, 2, 2), dtype=np.int32))
    both = join_tables([noise, feature_table(clip_bundle, clips)])
    result = train_classifier(bundle, both, TrainingOptions(holdout=0))
    assert result.classes == ("a", "b")
    with pytest.raises(BundleError, match=r"classify\.fp32\.onnx in ONNX Runtime with the inputs"):
        Classifier.open(bundle)
    session = onnxruntime.InferenceSession(bundle / "classify.fp32.onnx")
    inputs = {"ids": both.sources[0].values, "features": both.sources[1].values}
    (found,) = session.run(None, inputs)
    assert tuple("ab"[best] for best in found.argmax(axis=1)) == LABELS
    # Neighbours are of the two classes.
    other = {**inputs, "features": inputs["features"][::-1].copy()}
    (turned,) = session.run(None, other)
    assert np.abs(turned - found).max() > 0.1
    other = {**inputs, "ids": inputs["ids"][::-1].copy()}
    (turned,) = session.run(None, other)
    assert np.abs(np.log(turned) - np.log(found)).max() > 1e-2


def test_features_of_another_model_are_refused(clip_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(clip_bundle, tmp_path / "bundle"))
    with pytest.raises(InputError, match=r"these features were made by another model"):
        train_classifier(bundle, features(), TrainingOptions())
