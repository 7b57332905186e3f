"""Ridge regression in its dual form, with its strength chosen by leave-one-out errors.

With a few hundred clips and tens of thousands of features this is exact, takes a second, has no
learning rate, and did better than gradient descent on the same features (docs/classifier.md).
Leave-one-out residuals in closed form: Cawley & Talbot, 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
TEMPERATURES = tuple(2.0**i for i in range(8))


@dataclass(frozen=True)
class LinearFit:
    """A linear layer, with the strength and accuracy found when it was chosen.

    Attributes:
        weight: float64 [K, D].
        bias: float64 [K].
        strength: Regularisation, as a multiple of the features' mean squared length.
        leave_one_out_accuracy: Share of clips, by their weights, whose class is predicted by a fit
            without the clip, 0..1.
        leave_one_out_loss: Mean of -log of the true class's probability by such fits, in nats.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    leave_one_out_accuracy: float
    leave_one_out_loss: float


def fit_linear(
    features: Tensor,
    classes: Tensor,
    num_classes: int,
    groups: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    strengths: Sequence[float] = STRENGTHS,
    chosen_by: Literal["accuracy", "loss"] = "accuracy",
) -> LinearFit:
    """Fits a layer whose softmax gives class probabilities.

    Args:
        features: [N, D], any float type; an N x N matrix is solved, so N can be some ten thousands.
        classes: int64 [N] in 0 .. K-1.
        num_classes: K.
        groups: int64 [N]; rows of one group, as views of one trajectory, are left out together. By
            default each row is alone.
        weights: [N], above 0: how much each row counts, in the fit and in what chooses strength
            and temperature. By default all count alike.
        strengths: Those that are tried.
        chosen_by: The leave-one-out figure by which one of them is chosen. Accuracy is a count,
            which few rows decide by chance; the loss changes smoothly.

    Returns:
        The layer: regression onto one-hot targets, times the temperature at which leave-one-out
        probabilities are likeliest.
    """
    features = features.double()
    weights = torch.ones(len(features)) if weights is None else weights
    weights = weights.double() / weights.double().sum()
    # Least squares of rows times the roots of their weights are weighted least squares.
    roots = (weights * len(weights)).sqrt()[:, None]
    targets = torch.nn.functional.one_hot(classes, num_classes).double()
    center, prior = weights @ features, weights @ targets
    scaled, scaled_targets = roots * (features - center), roots * (targets - prior)
    gram = scaled @ scaled.T
    scale = gram.diagonal().mean()

    best: tuple[float, float, float, float, Tensor] | None = None
    for strength in strengths:
        dual, errors = solve_leaving_out(gram, scaled_targets, strength * scale, groups, roots)
        scores = targets - errors / roots
        # Of the wrong ones: where there are none, weights that sum to almost 1 make no difference.
        accuracy = 1 - (weights @ (scores.argmax(dim=1) != classes).double()).item()
        losses = [
            (weights @ cross_entropy(scores * temperature, classes, reduction="none")).item()
            for temperature in TEMPERATURES
        ]
        loss = min(losses)
        is_better = best is None or (
            accuracy > best[0] if chosen_by == "accuracy" else loss < best[1]
        )
        if is_better:
            best = (accuracy, loss, strength, TEMPERATURES[losses.index(loss)], dual)
    assert best is not None
    accuracy, loss, strength, temperature, dual = best
    weight = temperature * (dual.T @ scaled)
    bias = temperature * prior - weight @ center
    return LinearFit(weight, bias, strength, accuracy, loss)


def solve_leaving_out(
    gram: Tensor,
    targets: Tensor,
    penalty: Tensor,
    groups: Tensor | None = None,
    roots: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Ridge regression, and the errors on each row of the regression without it.

    Args:
        gram: float64 [N, N], products of the rows, which are centred and times their roots.
        targets: float64 [N, K], centred and times their roots too.
        penalty: What is added to the diagonal: float64, above 0.
        groups: int64 [N]; rows of one group are left out together. None leaves out each alone.
        roots: float64 [N, 1], square roots of the rows' weights; None weighs all alike.

    Returns:
        Dual coefficients, float64 [N, K]; and errors times the roots, float64 [N, K]: targets less
        what a regression predicts whose means, of features and targets, leave the row out too.
    """
    inverse = torch.cholesky_inverse(
        torch.linalg.cholesky(gram + penalty * torch.eye(len(gram)).double())
    )
    dual = inverse @ targets
    roots = torch.ones(len(gram), 1).double() if roots is None else roots
    # Leaves rows out of the means. Without it, centred features reveal a clip's class through the
    # others', and all look predictable.
    means = 1 / (penalty * roots.square().sum())
    if groups is None or len(np.unique(groups.numpy())) == len(groups):
        return dual, dual / (inverse.diagonal()[:, None] - means * roots.square())
    errors = torch.empty_like(dual)
    for group in np.unique(groups.numpy()):
        (rows,) = torch.nonzero(groups == group, as_tuple=True)
        own = inverse[rows[:, None], rows] - means * (roots[rows] @ roots[rows].T)
        errors[rows] = torch.linalg.solve(own, dual[rows])
    return dual, errors
