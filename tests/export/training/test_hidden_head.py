"""The hidden head: what it can tell apart, what it is made of, and when it is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from magvit_export.training.classifier import ExportedClassifier
from magvit_export.training.classifier_export import MOST_PARAMETERS, check_parameters
from magvit_export.training.fitting import FittedClassifier, fit
from magvit_export.training.hidden_head import STRENGTHS, HiddenHead
from magvit_export.training.options import FitOptions
from magvit_export.training.sources import Features, Tokens
from magvit_runtime.errors import InputError

HIDDEN = FitOptions(head="hidden")
BITS = 4


def tokens(clips: int, grid: tuple[int, ...] = (2, 8, 8), seed: int = 0) -> Tokens:
    """Left and right halves that are each of two patterns, with a tenth of the bits flipped."""
    random = np.random.default_rng(seed)
    signs = halves(clips)
    pattern = random.integers(2, size=BITS)
    is_left = np.arange(grid[-1]) < grid[-1] // 2
    bits = np.where(is_left, signs[0][:, None], signs[1][:, None])
    bits = bits.reshape(clips, *[1] * (len(grid) - 1), grid[-1], 1) ^ pattern
    flipped = random.random((clips, *grid, BITS)) < 0.1
    return Tokens(((bits ^ flipped) << np.arange(BITS)).sum(-1).astype(np.int32), 2**BITS)


def halves(clips: int) -> np.ndarray:
    return np.stack([np.arange(clips) % 2, np.arange(clips) // 2 % 2])


def equal_or_not(clips: int) -> list[str]:
    """Whether both halves are alike, which no sum over places tells."""
    return ["alike" if left == right else "unlike" for left, right in halves(clips).T]


def accuracy(options: FitOptions, grid: tuple[int, ...] = (2, 8, 8)) -> float:
    source, names = tokens(160, grid), equal_or_not(160)
    fitted = fit([source.take(np.arange(100))], names[:100], options)
    found = fitted.predict_proba([source.take(np.arange(100, 160))]).argmax(axis=1)
    return float(np.mean([fitted.classes[i] for i in found] == np.array(names[100:])))


def head_of(fitted: FittedClassifier) -> HiddenHead:
    assert isinstance(fitted.module, HiddenHead)
    return fitted.module


@pytest.mark.parametrize("grid", [(2, 8, 8), (8, 8), (1, 20, 12)], ids=["video", "image", "large"])
def test_it_tells_what_depends_on_two_places_together(grid: tuple[int, ...]) -> None:
    assert accuracy(HIDDEN, grid) > 0.95
    assert accuracy(FitOptions(head="linear"), grid) < 0.7


def test_the_same_seed_gives_the_same_bytes_and_another_others() -> None:
    random = np.random.default_rng(0)
    source = Tokens(random.integers(2**BITS, size=(40, 2, 8, 8), dtype=np.int32), 2**BITS)
    names = equal_or_not(40)
    first = fit([source], names, HIDDEN).predict_proba([source])
    torch.rand(3)  # Random numbers of others change nothing.
    before = torch.random.get_rng_state()
    np.testing.assert_array_equal(first, fit([source], names, HIDDEN).predict_proba([source]))
    assert torch.equal(torch.random.get_rng_state(), before)
    new = Tokens(source.ids[:, ::-1], source.vocabulary)
    first = fit([source], names, HIDDEN).predict_proba([new])
    other = fit([source], names, replace(HIDDEN, seed=1)).predict_proba([new])
    assert np.abs(first - other).max() > 1e-4


@torch.no_grad()
def test_units_see_numbers_around_zero_and_about_one_large() -> None:
    source = tokens(60)
    head = head_of(fit([source], equal_or_not(60), HIDDEN))
    before = head.units(head.components(head.blurred(torch.from_numpy(source.ids)))).flatten(1)
    assert before.mean(dim=0).abs().max() < 1e-4
    assert before.square().mean().sqrt().item() == pytest.approx(1, abs=0.05)


@torch.no_grad()
def test_components_are_those_that_change_most_and_each_another() -> None:
    source = tokens(60, (2, 10, 10))
    head = head_of(fit([source], equal_or_not(60), HIDDEN))
    axes = head.components.weight.flatten(1)
    torch.testing.assert_close(axes @ axes.T, torch.eye(len(axes)), atol=1e-4, rtol=0)
    maps = head.blurred(torch.from_numpy(source.ids))
    parts = head.components(maps).flatten(2)
    spreads = (parts - parts.mean(dim=0)).square().sum(dim=(0, 2))
    assert (spreads.diff() < 1e-3 * spreads[0]).all()
    # 64 of 4 bits at 25 places: nearly all of what differs between clips.
    assert len(axes) == 64
    whole = (maps - maps.mean(dim=0)).square().sum()
    assert spreads.sum() > 0.97 * whole


@torch.no_grad()
def test_the_filter_keeps_bits_apart_and_spreads_each_over_three_sixteenths() -> None:
    head = HiddenHead(2**BITS, num_classes=2, grid=(1, 32, 32))
    kernel = head.blur.weight
    for bit in range(BITS):
        assert kernel[bit, bit].sum().item() == pytest.approx(1, abs=1e-5)
        assert not kernel[bit, [i for i in range(BITS) if i != bit]].any()
    line = kernel[0, 0, 0].sum(dim=0)
    places = torch.arange(len(line)) - (len(line) - 1) / 2
    # Cut at two deviations, it is a little narrower than 6 tokens of 32.
    assert 5 < (line * places.square()).sum().sqrt() < 6
    assert head.blur.stride == (1, 4, 4)
    assert torch.allclose(line, line.flip(0))


@pytest.mark.parametrize("classes", [2, 15, 400])
@pytest.mark.parametrize(
    "grid", [(5, 16, 16), (17, 16, 16), (5, 32, 32), (60, 8, 8), (16, 16), (1, 1, 1)]
)
def test_it_fits_into_a_bundle_for_all_sizes(grid: tuple[int, ...], classes: int) -> None:
    head = HiddenHead(2**18, num_classes=classes, grid=grid)
    check_parameters(ExportedClassifier(head))
    assert head(torch.zeros(1, *grid, dtype=torch.int32)).shape == (1, classes)
    if (grid, classes) == ((5, 16, 16), 15):
        assert len(head.units.weight) == 8192
        weights = sum(part.numel() for part in head.parameters())
        assert 0.9 * MOST_PARAMETERS < weights < MOST_PARAMETERS


def test_copies_of_a_trajectory_are_left_out_together() -> None:
    """Labels of chance look predictable to who has seen each clip's copy."""
    random = np.random.default_rng(3)
    ids = random.integers(2**BITS, size=(30, 2, 8, 8), dtype=np.int32)
    source = Tokens(np.repeat(ids, 2, axis=0), 2**BITS)
    names = [("a", "b")[i] for i in np.repeat(random.integers(2, size=30), 2)]
    new = Tokens(random.integers(2**BITS, size=(40, 2, 8, 8), dtype=np.int32), 2**BITS)

    def sure(groups: np.ndarray | None) -> float:
        found = fit([source], names, HIDDEN, groups=groups).predict_proba([new])
        return float(found.max(axis=1).mean())

    assert sure(np.repeat(np.arange(30), 2)) < 0.65 < 0.8 < sure(None)


def test_the_leave_one_out_loss_chooses_the_strength() -> None:
    random = np.random.default_rng(5)
    source = Tokens(random.integers(2**BITS, size=(40, 1, 4, 4), dtype=np.int32), 2**BITS)
    names = [("a", "b")[i] for i in random.integers(2, size=40)]
    fitted = fit([source], names, HIDDEN)
    # Nothing can be learnt of chance: the more is taken back, the better.
    assert fitted.facts["strength"] == max(STRENGTHS)


def test_balanced_weights_find_a_rare_class() -> None:
    random = np.random.default_rng(0)

    def clips(rare: np.ndarray) -> Tokens:
        odds = np.where(rare, 0.6, 0.5)[:, None, None, None, None]
        bits = random.random((len(rare), 1, 4, 4, BITS)) < odds
        return Tokens((bits << np.arange(BITS)).sum(-1).astype(np.int32), 2**BITS)

    rare = np.arange(300) % 10 == 0
    source, new = clips(rare), clips(np.ones(100, bool))
    names = ["rare" if one else "usual" for one in rare]

    def recall(options: FitOptions) -> float:
        found = fit([source], names, options).predict_proba([new])
        return float((found.argmax(axis=1) == 0).mean())

    assert recall(replace(HIDDEN, class_weights="balanced")) > recall(HIDDEN) + 0.1


def test_it_is_taken_where_copies_are_trained_on() -> None:
    source, names = tokens(40), equal_or_not(40)
    groups, varied = np.arange(40) // 2 * 2, np.arange(40) % 2 == 1
    names = [names[group] for group in groups]

    def taken(options: FitOptions, *more: Features) -> str | int | float:
        found = fit([source, *more], names, options, groups=groups, varied=varied)
        return found.facts["head"]

    assert taken(FitOptions()) == "hidden"
    assert fit([source], names, groups=groups).facts["head"] == "linear"
    # What only a linear head has.
    assert taken(FitOptions(embedding="table")) == "linear"
    # A width of tokens means nothing to it, and on the command line is that of clips too.
    assert taken(FitOptions(width=16)) == "hidden"
    assert taken(FitOptions(epochs=1)) == "linear"
    features = Features(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    assert taken(FitOptions(), features) == "linear"
    assert taken(FitOptions(head="linear")) == "linear"


def test_what_it_lacks_is_refused() -> None:
    for wrong in ({"embedding": "table"}, {"epochs": 2}):
        with pytest.raises(InputError, match="a hidden head reads bits"):
            FitOptions(head="hidden", **wrong)
    with pytest.raises(InputError, match="expected 1, or more of conv"):
        FitOptions(head="hidden", members=2)
    with pytest.raises(InputError, match="a hidden head takes tokens alone"):
        fit([Features(np.zeros((4, 2), np.float32))], ["a", "b"] * 2, HIDDEN)
