"""Weights that change little from place to place: the filter, its transpose, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from magvit_export.training.fitting import fit
from magvit_export.training.smoothing import (
    SPREADS,
    Block,
    smoothed,
    smoothed_back,
    spreads_of,
)
from magvit_export.training.sources import Tokens

BLOCKS = (Block(3 * 5 * 7 * 2, (3, 5, 7)), Block(4), Block(6 * 4 * 3, (6, 4)))


def values(count: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    size = sum(block.size for block in BLOCKS)
    return torch.randn(count, size, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("spread", SPREADS)
def test_a_layer_of_filtered_features_is_one_of_unfiltered_ones(spread: float) -> None:
    features, weights = values(9), values(2)
    torch.testing.assert_close(
        smoothed(features, BLOCKS, spread) @ weights.T,
        features @ smoothed_back(weights, BLOCKS, spread).T,
    )


def test_inside_it_is_scipys_gaussian_and_time_and_features_stay() -> None:
    features = values(1)
    given = features[0, :210].reshape(3, 5, 7, 2).numpy()
    found = smoothed(features, BLOCKS, 0.5)[0, :210].reshape(3, 5, 7, 2).numpy()
    expected = gaussian_filter1d(gaussian_filter1d(given, 0.5, axis=1), 0.5, axis=2)
    np.testing.assert_allclose(found[:, 2, 3], expected[:, 2, 3], atol=2e-3)
    torch.testing.assert_close(smoothed(features, BLOCKS, 1.0)[:, 210:214], features[:, 210:214])
    level = torch.ones(1, 286, dtype=torch.float64)
    torch.testing.assert_close(smoothed(level, BLOCKS, 2.0), level)


def test_only_places_are_worth_filtering() -> None:
    assert spreads_of(BLOCKS) == SPREADS
    assert spreads_of([Block(4), Block(18, (3, 1, 1))]) == (0.0,)


def marks(shifts: int, seed: int) -> tuple[Tokens, list[str]]:
    """Clips that are empty but for a mark of their class, somewhere around the middle."""
    random = np.random.default_rng(seed)
    ids = np.zeros((60, 1, 16, 16), np.int32)
    labels = []
    for i in range(60):
        y, x = 8 + random.integers(-shifts, shifts + 1, 2)
        ids[i, 0, y, x] = 1 + i % 3
        labels.append("abc"[i % 3])
    return Tokens(ids, 4), labels


def test_moved_marks_are_told_apart_by_smooth_weights() -> None:
    train, test = marks(3, seed=0), marks(3, seed=1)
    fitted = fit([train[0]], train[1])
    assert float(fitted.facts["smoothing"]) > 0
    found = fitted.predict_proba([test[0]]).argmax(axis=1)
    assert np.mean([fitted.classes[i] for i in found] == np.array(test[1])) > 0.9


def test_marks_at_their_places_need_none() -> None:
    """The class is where the mark is: neighbouring places mean different things."""
    ids = np.zeros((64, 1, 4, 4), np.int32)
    ids[np.arange(64), 0, 1, np.arange(64) % 4] = 1
    fitted = fit([Tokens(ids, 4)], ["abcd"[i % 4] for i in range(64)])
    assert fitted.facts["smoothing"] == 0
