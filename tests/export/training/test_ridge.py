"""The closed-form fit against the slow way: one fit for each clip."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from magvit_export.training.ridge import STRENGTHS, fit_linear, solve_leaving_out


def problem(clips: int, features: int, classes: int) -> tuple[Tensor, Tensor]:
    """Classes that overlap, so that some clips are predicted wrong."""
    random = torch.Generator().manual_seed(0)
    truth = torch.arange(clips) % classes
    centers = torch.randn(classes, features, generator=random, dtype=torch.float64)
    noise = torch.randn(clips, features, generator=random, dtype=torch.float64)
    return 0.5 * centers[truth] + noise, truth


def ridge(x: Tensor, y: Tensor, penalty: Tensor) -> Tensor:
    return torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).double(), x.T @ y)


def leave_one_out_accuracy(features: Tensor, truth: Tensor, classes: int, strength: float) -> float:
    """Refits without each clip, so neither its features nor its class have an influence."""
    centered = features - features.mean(dim=0)
    penalty = strength * (centered @ centered.T).diagonal().mean()
    targets = torch.nn.functional.one_hot(truth, classes).double()
    right = 0
    for i in range(len(features)):
        others = torch.arange(len(features)) != i
        center, prior = features[others].mean(dim=0), targets[others].mean(dim=0)
        layer = ridge(features[others] - center, targets[others] - prior, penalty)
        right += int(((features[i] - center) @ layer + prior).argmax() == truth[i])
    return right / len(features)


@pytest.mark.parametrize(("clips", "features", "classes"), [(30, 5, 3), (24, 60, 4), (40, 12, 2)])
def test_leave_one_out_accuracy_and_the_choice_by_it(
    clips: int, features: int, classes: int
) -> None:
    x, truth = problem(clips, features, classes)
    fit = fit_linear(x, truth, classes)
    by_strength = {
        strength: leave_one_out_accuracy(x, truth, classes, strength) for strength in STRENGTHS
    }
    assert 1 / classes < fit.leave_one_out_accuracy < 1
    assert fit.leave_one_out_accuracy == pytest.approx(by_strength[fit.strength])
    assert fit.leave_one_out_accuracy == pytest.approx(max(by_strength.values()))


@pytest.mark.parametrize("penalty", [1e-3, 0.5, 20.0])
@pytest.mark.parametrize("sizes", [[1] * 12, [3] * 4, [1, 4, 2, 5]])
@pytest.mark.parametrize("features", [3, 40])
def test_errors_are_those_of_refitting_without_the_rows(
    sizes: list[int], features: int, penalty: float
) -> None:
    x, truth = problem(12, features, 3)
    targets = torch.nn.functional.one_hot(truth, 3).double()
    strength = torch.tensor(penalty, dtype=torch.float64)
    centered = x - x.mean(dim=0)
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    dual, errors = solve_leaving_out(
        centered @ centered.T, targets - targets.mean(dim=0), strength, groups
    )
    layer = ridge(centered, targets - targets.mean(dim=0), strength)
    torch.testing.assert_close(centered.T @ dual, layer)
    for group in range(len(sizes)):
        others = groups != group
        center, prior = x[others].mean(dim=0), targets[others].mean(dim=0)
        refitted = ridge(x[others] - center, targets[others] - prior, strength)
        predicted = (x[~others] - center) @ refitted + prior
        torch.testing.assert_close(errors[~others], targets[~others] - predicted)


@pytest.mark.parametrize("sizes", [[3] * 10, [1, 4, 2, 1, 7, 3, 2, 5, 5]])
def test_groups_are_left_out_together(sizes: list[int]) -> None:
    x, truth = problem(30, 12, 3)
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    groups = groups[torch.randperm(30, generator=torch.Generator().manual_seed(0))]
    fit = fit_linear(x, truth, 3, groups)
    centered = x - x.mean(dim=0)
    penalty = fit.strength * (centered @ centered.T).diagonal().mean()
    targets = torch.nn.functional.one_hot(truth, 3).double()
    right = 0
    for group in range(len(sizes)):
        others = groups != group
        center, prior = x[others].mean(dim=0), targets[others].mean(dim=0)
        layer = ridge(x[others] - center, targets[others] - prior, penalty)
        found = ((x[~others] - center) @ layer + prior).argmax(dim=1)
        right += int((found == truth[~others]).sum())
    assert fit.leave_one_out_accuracy == pytest.approx(right / 30)


def test_copies_reveal_no_class_where_they_are_left_out_together() -> None:
    """As views of one trajectory would: each alone, and labels of chance look predictable."""
    random = torch.Generator().manual_seed(4)
    x = torch.randn(30, 200, generator=random).repeat_interleave(2, dim=0)
    x = x + 0.01 * torch.randn(60, 200, generator=random)
    truth = torch.randint(3, (30,), generator=random).repeat_interleave(2)
    alone = fit_linear(x, truth, 3)
    together = fit_linear(x, truth, 3, torch.arange(30).repeat_interleave(2))
    assert alone.leave_one_out_accuracy > 0.95
    assert together.leave_one_out_accuracy < 0.6


def test_the_layer_is_ridge_regression_onto_the_classes() -> None:
    """Equal except for one factor, the temperature, and the constant of each class."""
    x, truth = problem(40, 12, 3)
    fit = fit_linear(x.float(), truth, 3)
    centered = x.float().double() - x.float().double().mean(dim=0)
    targets = torch.nn.functional.one_hot(truth, 3).double()
    penalty = fit.strength * (centered @ centered.T).diagonal().mean()
    expected = ridge(centered, targets - targets.mean(dim=0), penalty).T
    temperature = (fit.weight / expected).median()
    assert temperature.item() == pytest.approx(2.0 ** round(temperature.log2().item()))
    torch.testing.assert_close(fit.weight, temperature * expected)
    scores = x.float().double() @ fit.weight.T + fit.bias
    torch.testing.assert_close(
        scores, temperature * (centered @ expected.T + targets.mean(dim=0)), rtol=1e-6, atol=1e-6
    )


def test_labels_of_chance_are_not_called_predictable() -> None:
    """With more features than clips every label can be fitted, and none predicted."""
    random = torch.Generator().manual_seed(2)
    x = torch.randn(60, 500, generator=random)
    truth = torch.randint(3, (60,), generator=random)
    fit = fit_linear(x, truth, 3)
    assert fit.leave_one_out_accuracy < 0.6
    probabilities = (torch.randn(200, 500, generator=random).double() @ fit.weight.T).softmax(dim=1)
    assert probabilities.max(dim=1).values.median() < 0.7


def test_well_separated_classes_are_learnt_and_sure() -> None:
    random = torch.Generator().manual_seed(1)
    truth = torch.arange(60) % 3
    x = 10 * torch.eye(3)[truth].repeat(1, 4) + torch.randn(60, 12, generator=random)
    fit = fit_linear(x, truth, 3)
    probabilities = (x.double() @ fit.weight.T + fit.bias).softmax(dim=1)
    assert fit.leave_one_out_accuracy == 1
    assert (probabilities.argmax(dim=1) == truth).all()
    assert probabilities.max(dim=1).values.min() > 0.9


@pytest.mark.parametrize("sizes", [[1] * 12, [1, 4, 2, 5]])
def test_errors_of_weighted_rows_are_those_of_refitting(sizes: list[int]) -> None:
    x, truth = problem(12, 5, 3)
    targets = torch.nn.functional.one_hot(truth, 3).double()
    weights = torch.linspace(0.2, 3, 12, dtype=torch.float64)
    penalty = torch.tensor(0.7, dtype=torch.float64)
    roots = weights.sqrt()[:, None]

    def means(rows: Tensor) -> tuple[Tensor, Tensor]:
        share = weights[rows] / weights[rows].sum()
        return share @ x[rows], share @ targets[rows]

    every = torch.ones(12, dtype=torch.bool)
    center, prior = means(every)
    scaled = roots * (x - center)
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    _, errors = solve_leaving_out(
        scaled @ scaled.T, roots * (targets - prior), penalty, groups, roots
    )
    for group in range(len(sizes)):
        others = groups != group
        center, prior = means(others)
        layer = ridge(
            roots[others] * (x[others] - center), roots[others] * (targets[others] - prior), penalty
        )
        predicted = (x[~others] - center) @ layer + prior
        torch.testing.assert_close(errors[~others] / roots[~others], targets[~others] - predicted)


def test_the_strength_is_chosen_among_those_given_by_the_figure_named() -> None:
    """Noisy features of few rows: one row more is right where strengths are too low to be sure."""
    strengths = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    differed = 0
    for seed in range(12):
        random = torch.Generator().manual_seed(seed)
        truth = torch.arange(30) % 3
        x = torch.eye(3)[truth] @ torch.randn(3, 20, generator=random)
        x = x + 3 * torch.randn(30, 20, generator=random)
        each = [fit_linear(x, truth, 3, strengths=(one,)) for one in strengths]
        by_accuracy = fit_linear(x, truth, 3, strengths=strengths)
        by_loss = fit_linear(x, truth, 3, strengths=strengths, chosen_by="loss")
        assert by_accuracy.leave_one_out_accuracy == max(fit.leave_one_out_accuracy for fit in each)
        assert by_loss.leave_one_out_loss == min(fit.leave_one_out_loss for fit in each)
        assert {by_accuracy.strength, by_loss.strength} <= set(strengths)
        differed += by_accuracy.strength != by_loss.strength
    assert differed > 2
