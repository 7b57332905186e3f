"""Classifiers of tokens, features and both, in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from magvit_export.training.conv_head import ConvHead, Ensemble
from magvit_export.training.fitting import fit
from magvit_export.training.options import FitOptions, TrainingOptions
from magvit_export.training.sources import Features, Source, Tokens, take
from magvit_runtime.errors import InputError

NAMES = ("a", "b", "c")
CONV = FitOptions(head="conv", epochs=4, learning_rate=5e-3)


def tokens(clips: int, noise: float, grid: tuple[int, ...] = (2, 4, 4), bits: int = 6) -> Tokens:
    """Each class has a pattern of bits, of which a share is flipped."""
    random = np.random.default_rng(0)
    patterns = random.integers(2, size=(3, *grid, bits))
    flipped = patterns[np.arange(clips) % 3] ^ (random.random((clips, *grid, bits)) < noise)
    return Tokens((flipped << np.arange(bits)).sum(-1).astype(np.int32), 2**bits)


def features(clips: int, distance: float) -> Features:
    """Classes are apart in two of eight numbers, of which one is a thousand times as large."""
    random = np.random.default_rng(1)
    values = random.normal(size=(clips, 8))
    values[:, 0] += distance * (np.arange(clips) % 3 == 0)
    values[:, 1] += distance * (np.arange(clips) % 3 == 1)
    return Features((values * [1, 1000, *[1] * 6] + 50).astype(np.float32))


def labels(clips: int) -> list[str]:
    return [NAMES[i % 3] for i in range(clips)]


def accuracy(sources: list[Source], options: FitOptions, clips: int, train: int) -> float:
    rows = np.arange(clips)
    fitted = fit(take(sources, rows[:train]), labels(train), options)
    found = fitted.predict_proba(take(sources, rows[train:]))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    return float((found.argmax(axis=1) == rows[train:] % 3).mean())


def test_two_sources_know_more_than_each() -> None:
    clips, train = 240, 60
    of_tokens, of_features = tokens(clips, 0.38), features(clips, 2.0)
    alone = [accuracy([source], FitOptions(), clips, train) for source in (of_tokens, of_features)]
    assert min(alone) > 0.5
    assert max(alone) < 0.95
    assert accuracy([of_tokens, of_features], FitOptions(), clips, train) > max(alone)


def test_the_unit_of_features_doesn_t_matter() -> None:
    source = features(60, 2.0)
    first = fit([source], labels(60)).predict_proba([source])
    other = Features(source.values * np.float32(1024))
    second = fit([other], labels(60)).predict_proba([other])
    np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("options", [CONV, replace(CONV, members=2)], ids=["one", "ensemble"])
def test_a_conv_head_learns_and_comes_again(options: FitOptions) -> None:
    source = tokens(33, 0.1)
    fitted = fit([source], labels(33), options)
    assert isinstance(fitted.module, ConvHead if options.members == 1 else Ensemble)
    found = fitted.predict_proba([source])
    assert (found.argmax(axis=1) == np.arange(33) % 3).mean() > 0.8
    torch.rand(3)  # Random numbers of others change nothing.
    np.testing.assert_array_equal(found, fit([source], labels(33), options).predict_proba([source]))
    changed = fit([source], labels(33), replace(options, seed=1)).predict_proba([source])
    assert np.abs(found - changed).max() > 1e-4


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    source = tokens(30, 0.2)
    both = fit([source], labels(30), replace(CONV, members=2)).predict_proba([source])
    each = [
        fit([source], labels(30), replace(CONV, seed=seed)).predict_proba([source])
        for seed in (0, 1)
    ]
    np.testing.assert_allclose(both, np.mean(each, axis=0), atol=1e-6)


@torch.no_grad()
def test_batch_norms_are_folded_into_convs() -> None:
    torch.manual_seed(0)
    head = ConvHead(64, num_classes=3, grid=(2, 4, 4))
    for norm in head.modules():
        if isinstance(norm, torch.nn.BatchNorm3d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    folded = head.eval().folded()
    assert not any(isinstance(part, torch.nn.BatchNorm3d) for part in folded.modules())
    ids = torch.from_numpy(tokens(4, 0.5).ids)
    torch.testing.assert_close(folded(ids), head(ids), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(folded.folded()(ids), folded(ids))


def test_an_image_s_tokens_have_no_time() -> None:
    source = tokens(30, 0.1, grid=(4, 4))
    assert fit([source], labels(30), CONV).predict_proba([source]).shape == (30, 3)


def test_the_epoch_is_chosen_on_clips_that_are_not_trained_on() -> None:
    """Labels of chance can be learnt by heart, which no other clip confirms."""
    random = np.random.default_rng(3)
    source = Tokens(random.integers(64, size=(60, 2, 4, 4), dtype=np.int32), 64)
    chance = [NAMES[i] for i in random.integers(3, size=60)]
    options = replace(CONV, epochs=20, validation=0.3)
    stopped = fit([source], chance, options)
    assert stopped.facts["epochs"] < 10
    through = fit([source], chance, replace(options, validation=0.0))
    assert through.facts["epochs"] == 20


def test_varied_copies_are_trained_on_and_choose_nothing() -> None:
    source = tokens(40, 0.45)
    groups = np.repeat(np.arange(20), 2)
    varied = np.arange(40) % 2 == 1
    names = [NAMES[group % 3] for group in groups]
    plain = fit([source], names, CONV, groups=groups, varied=varied)
    others = Tokens(source.ids.copy(), source.vocabulary)
    others.ids[varied] = 0
    assert plain.predict_proba([source]).tolist() != (
        fit([others], names, CONV, groups=groups, varied=varied).predict_proba([source]).tolist()
    )


def test_balanced_weights_find_a_rare_class() -> None:
    random = np.random.default_rng(0)
    rare = np.arange(400) % 20 == 0
    source = Features((random.normal(size=(400, 4)) + 1.2 * rare[:, None]).astype(np.float32))
    names = ["rare" if one else "usual" for one in rare]

    def recall(options: FitOptions) -> float:
        found = fit([source], names, options).predict_proba([source])
        return float((found[rare].argmax(axis=1) == 0).mean())

    assert recall(FitOptions(class_weights="balanced")) > 0.7
    assert recall(FitOptions()) < 0.5


def test_a_class_without_a_clip_has_its_place() -> None:
    source = features(30, 3.0)
    two = [NAMES[i % 2] for i in range(30)]
    fitted = fit([source], two, FitOptions(class_weights="balanced"), classes=NAMES)
    assert fitted.classes == NAMES
    assert fitted.predict_proba([source]).shape == (30, 3)


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ([features(6, 1.0)], CONV, "a conv head takes tokens alone"),
        ([features(6, 1.0), features(5, 1.0)], FitOptions(), "hold the same clips"),
        ([Features(np.full((6, 2), np.nan))], FitOptions(), "takes finite features"),
    ],
)
def test_what_doesn_t_fit_is_refused(
    sources: list[Source], options: FitOptions, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fit(sources, labels(6), options)


def test_folds_and_a_holdout_are_two_ways() -> None:
    assert TrainingOptions(folds=5).share == 0
    with pytest.raises(InputError, match="by folds or on what is held out"):
        TrainingOptions(folds=5, holdout=0.2)
    with pytest.raises(InputError, match="`folds` is out of range"):
        TrainingOptions(folds=1)
