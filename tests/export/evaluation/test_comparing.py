"""Methods compared: figures come from the data, and nothing leaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from magvit_export.evaluation import fine_tuned as fine_tuned_module
from magvit_export.evaluation import methods as methods_module
from magvit_export.evaluation.class_options import MethodOptions
from magvit_export.evaluation.clip_outputs import AT_ONCE, clip_tokens
from magvit_export.evaluation.comparing import compare
from magvit_export.evaluation.labelled import (
    Labelled,
    Split,
    equal_together,
    folds,
    generated,
    growing,
    label,
    libras,
)
from magvit_export.evaluation.methods import (
    Method,
    classifier_of,
    coordinate_methods,
    predictions,
)
from magvit_export.evaluation.model_choice import choose_model
from magvit_export.families.magvit.encoder import Encoder
from magvit_export.training.options import FitOptions
from magvit_export.training.sources import Features, Source, Tokens
from magvit_runtime import Tokenizer
from magvit_runtime.clips.generated import GenerationOptions
from magvit_runtime.clips.trajectories import ONE_CAMERA, Cameras, RenderStyle, Trajectory
from magvit_runtime.errors import InputError

STYLE = RenderStyle(height=32, width=32, frames=3)
COUNT = 30


@pytest.fixture(scope="module")
def data() -> Labelled:
    options = GenerationOptions(count=COUNT, dimensions=3, samples=16, noise=0.02, seed=3)
    return generated(options, STYLE, ONE_CAMERA)


def tokens_of(data: Labelled) -> Tokens:
    """Tokens that say the class by two of their bits, and noise by the others."""
    noise = np.random.default_rng(1).integers(0, 2**12, (len(data.truth), 1, 2, 2))
    return Tokens((noise * 4 + data.truth[:, None, None, None]).astype(np.int32), 2**14)


def rows(data: Labelled) -> list[Method]:
    predict = classifier_of(tokens_of(data), data, FitOptions())
    return [Method("tokens, linear", "w", True, predict), *coordinate_methods(data, 0, steps=40)]


def shuffled(data: Labelled) -> Labelled:
    return dataclasses.replace(data, truth=np.random.default_rng(2).permutation(data.truth))


def test_what_can_be_learnt_is_and_shuffled_labels_give_chance(data: Labelled) -> None:
    splits = folds(data, 3, 1, 0)
    true = compare(data, splits, rows(data), split_words="")
    assert true.methods[0].scores.accuracy.value > 0.95
    assert all(row.scores.accuracy.low > 0.25 for row in true.methods)
    other = shuffled(data)
    made = [
        Method("tokens, linear", "w", True, classifier_of(tokens_of(data), other, FitOptions()))
    ]
    made += coordinate_methods(other, 0, steps=40)
    for row in compare(other, folds(other, 3, 1, 0), made, split_words="").methods:
        assert row.scores.accuracy.low <= 0.25 <= row.scores.accuracy.high + 0.03, row.name


def test_a_method_that_saw_what_it_is_tested_on_stands_out_on_shuffled_labels(
    data: Labelled,
) -> None:
    other = shuffled(data)
    splits = folds(other, 3, 1, 0)
    nearest = coordinate_methods(other, 0)[0]
    every = np.arange(len(other.truth))
    leaking = Method("leak", "", False, lambda s: nearest.predict(Split(every, s.test)))
    found = compare(other, splits, [nearest, leaking], split_words="").methods
    assert found[0].scores.accuracy.value < 0.5
    assert found[1].scores.accuracy.value == 1


def test_splits_that_train_on_what_they_test_are_refused(data: Labelled) -> None:
    train, test = folds(data, 3, 1, 0)[0]
    with pytest.raises(ValueError, match="trained on and tested"):
        compare(data, [Split(np.append(train, test[0]), test)], rows(data), split_words="")
    # Also where another of the group is.
    groups = data.groups.copy()
    groups[test[0]] = groups[train[0]]
    together = dataclasses.replace(data, groups=groups)
    with pytest.raises(ValueError, match="1 groups"):
        compare(together, [Split(train, test)], rows(data), split_words="")


def test_equal_paths_of_a_file_are_one_group(data: Labelled) -> None:
    first, second = data.trajectories[0], data.trajectories[4]
    copied = dataclasses.replace(first, id="copy")
    raised = dataclasses.replace(first, id="raised", z=None if first.z is None else first.z + 1)
    assert equal_together([first, second, copied, raised]).tolist() == [0, 1, 0, 2]


def test_every_trajectory_is_tested_once_a_repeat_and_classes_are_shared(data: Labelled) -> None:
    splits = folds(data, 5, 2, 0)
    assert len(splits) == 10
    tested = np.concatenate([split.test for split in splits])
    assert np.bincount(tested).tolist() == [2] * len(data.truth)
    for split in splits:
        assert np.bincount(data.truth[split.test]).tolist() == [COUNT // 5] * 4
    assert not np.array_equal(splits[0].test, splits[5].test)


def test_growing_training_sets_share_nothing_with_each_other_or_the_test(data: Labelled) -> None:
    found = growing(data, (4, 20), 10, 3)
    assert [len(splits) for splits in found.values()] == [3, 1]
    for size, splits in found.items():
        for train, test in splits:
            assert np.bincount(data.truth[train]).tolist() == [size] * 4
            assert np.array_equal(test, np.arange(80, 120))
            assert train.max() < 80
    first, second, _ = found[4]
    assert not np.intersect1d(first.train, second.train).size


def test_differences_and_ensembles_are_of_the_rows_own_predictions(data: Labelled) -> None:
    splits = folds(data, 3, 1, 0)
    made = rows(data)
    names = [method.name for method in made]
    together = f"{names[1]} + {names[2]}"
    found = compare(data, splits, made, split_words="", ensembles={together: names[1:]})
    first, near, _, mean = found.methods
    assert first.difference is None
    assert near.difference is not None
    assert near.difference.value == pytest.approx(np.mean(near.right) - np.mean(first.right))
    probabilities = [predictions(method, splits).probabilities for method in made[1:]]
    order = predictions(made[1], splits).rows
    right = np.mean(probabilities, axis=0).argmax(axis=1) == data.truth[order]
    assert mean.scores.accuracy.value == pytest.approx(right.mean())
    assert mean.right == right[np.argsort(order)].astype(float).tolist()
    assert found.tested == [item.id for item in data.trajectories]
    with pytest.raises(InputError, match="can't be made"):
        compare(data, splits, made, split_words="", ensembles={"x": ["y"]})


def test_views_and_copies_go_where_their_trajectory_goes(
    data: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each number says its trajectory, view and copy: 1000 i + 10 copy + view."""
    some = label("some", data.trajectories[:6], STYLE, Cameras(views=2))
    own = [1000 * i + view for i in range(6) for view in range(2)]
    copies = [1000 * i + 10 * c + v for i in range(6) for c in (1, 2, 3) for v in range(2)]
    source = Features(np.array([*own, *copies], np.float32)[:, None])
    seen: dict[str, NDArray[np.float32]] = {}

    class Fitted:
        def predict_proba(self, sources: Sequence[Source]) -> NDArray[np.float32]:
            seen["test"] = sources[0].values[:, 0]
            is_copy = seen["test"] % 1000 >= 10
            said = np.where(is_copy, 2, seen["test"] % 10).astype(int)
            return np.eye(4, dtype=np.float32)[said]

    def fit(
        sources: Sequence[Source],
        labels: list[str],
        _: FitOptions,
        groups: NDArray[np.int64],
        varied: NDArray[np.bool_],
        classes: tuple[str, ...],
    ) -> Fitted:
        assert classes == some.classes
        numbers = sources[0].values[:, 0]
        seen["train"] = numbers
        of = (numbers // 1000).astype(int)
        assert labels == [some.classes[some.truth[i]] for i in of]
        assert groups.tolist() == of.tolist()
        assert varied.tolist() == (numbers % 1000 >= 10).tolist()
        return Fitted()

    monkeypatch.setattr(methods_module, "fit", fit)
    split = Split(np.array([0, 2, 3]), np.array([1, 5]))
    found = classifier_of(source, some, FitOptions(), augment=3)(split)
    assert seen["test"].tolist() == [1000, 1001, 5000, 5001]
    assert sorted(seen["train"] // 1000) == sorted([0, 2, 3] * 8)
    assert found.tolist() == [[0.5, 0.5, 0, 0]] * 2  # The mean over views.

    found = classifier_of(source, some, FitOptions(), augment=1, variations=2)(split)
    assert sorted(seen["train"]) == [1000 * i + n for i in (0, 2, 3) for n in (0, 1, 10, 11)]
    of_test = [1000 * i + n for i in (1, 5) for n in (0, 1, 10, 11, 20, 21)]
    assert sorted(seen["test"]) == of_test
    np.testing.assert_allclose(found, [[1 / 6, 1 / 6, 4 / 6, 0]] * 2)


def test_each_head_is_fitted_as_it_is_named() -> None:
    options = MethodOptions(heads="conv,linear,hidden", epochs=3, members=2, seed=5)
    conv, linear, hidden = options.each_head()
    assert (conv.head, linear.head, hidden.head) == ("conv", "linear", "hidden")
    assert (conv.epochs, linear.epochs, hidden.epochs) == (3, None, None)
    assert (conv.members, hidden.members) == (2, 1)
    assert {one.seed for one in (conv, linear, hidden)} == {5}
    assert [one.head for one in MethodOptions().each_head()] == ["linear", "hidden", "conv"]


def test_tokens_are_made_once_for_each_model_and_look(
    tiny_bundle: Path, data: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGVIT_CACHE_DIR", str(tmp_path))
    made: list[int] = []
    call = Tokenizer.__call__

    def counted(self: Tokenizer, clips: NDArray[np.uint8]) -> NDArray[np.int32]:
        made.append(len(clips))
        return call(self, clips)

    monkeypatch.setattr(Tokenizer, "__call__", counted)
    few = label("few", data.trajectories[: AT_ONCE + 4], STYLE)
    first = clip_tokens(tiny_bundle, few, 0, 0)
    assert made == [AT_ONCE, 4]
    assert np.array_equal(clip_tokens(tiny_bundle, few, 0, 0).ids, first.ids)
    assert len(made) == 2
    # What was interrupted after the first part goes on there.
    more = label("more", data.trajectories[: 2 * AT_ONCE], STYLE)
    clip_tokens(tiny_bundle, more, 0, 0)
    assert made == [AT_ONCE, 4, AT_ONCE]
    other = dataclasses.replace(
        few, style=RenderStyle(height=32, width=32, frames=3, trail_width=2)
    )
    assert not np.array_equal(clip_tokens(tiny_bundle, other, 0, 0).ids, first.ids)
    assert made[3:] == [AT_ONCE, 4]
    copied = clip_tokens(tiny_bundle, few, 1, 0)
    assert np.array_equal(copied.ids[: len(few.truth)], first.ids)
    assert len(copied.ids) == 2 * len(few.truth)


def test_an_encoder_is_fine_tuned_on_the_training_part_alone(
    tiny_bundle: Path, data: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGVIT_CACHE_DIR", str(tmp_path))
    few = label("few", data.trajectories[:24], STYLE)
    seen: list[str] = []
    tune = fine_tuned_module.fine_tune

    def watched(encoder: Encoder, trajectories: list[Trajectory], *rest: Any, **more: Any) -> Any:
        seen.extend(item.id for item in trajectories)
        before = {key: value.clone() for key, value in encoder.state_dict().items()}
        found = tune(encoder, trajectories, *rest, **more)
        after = encoder.state_dict()
        changed = any(not torch.equal(before[key], after[key]) for key in before)
        assert changed == (found.epoch > 0)
        return found

    monkeypatch.setattr(fine_tuned_module, "fine_tune", watched)
    model = choose_model(f"tiny={tiny_bundle}", "encode", tmp_path / "none")
    train, test = folds(few, 3, 1, 0)[0]
    predict = fine_tuned_module.fine_tuned(
        model, few, FitOptions(validation=0.25), epochs=1, copies=1
    )
    found = predict(Split(train, test))
    assert seen == [few.trajectories[i].id for i in train]
    assert found.shape == (8, 4)
    assert found.sum(axis=1) == pytest.approx(np.ones(8), abs=1e-5)


def test_libras_has_each_movement_once() -> None:
    data = libras(STYLE)
    assert len(data.truth) == len(np.unique(equal_together(data.trajectories))) == 330
    assert len(data.classes) == 15


def test_paths_of_several_kinds_are_not_compared(data: Labelled) -> None:
    t = np.arange(3.0)
    flat = Trajectory("flat", np.zeros((3, 2)), t, "linear")
    mixed = label("mixed", [data.trajectories[0], data.trajectories[1], flat], STYLE)
    with pytest.raises(InputError, match="several kinds"):
        coordinate_methods(mixed, 0)
