"""Ridge regression in its dual form, with its strength chosen by leave-one-out errors.

With a few hundred clips and tens of thousands of features this is exact, takes a second, has no
learning rate, and did better than gradient descent on the same features (docs/classifier.md).
Leave-one-out residuals in closed form: Cawley & Talbot, 2004.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
TEMPERATURES = tuple(2.0**i for i in range(8))


@dataclass(frozen=True)
class LinearFit:
    """A linear layer, with the strength and accuracy found when it was chosen.

    Attributes:
        weight: float64 [K, D].
        bias: float64 [K].
        strength: Regularisation, as a multiple of the features' mean squared length.
        leave_one_out_accuracy: Share of clips whose class is predicted by a fit without the clip,
            0..1.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    leave_one_out_accuracy: float


def fit_linear(
    features: Tensor, classes: Tensor, num_classes: int, groups: Tensor | None = None
) -> LinearFit:
    """Fits a layer whose softmax gives class probabilities.

    Args:
        features: [N, D], any float type; an N x N matrix is solved, so N can be some ten thousands.
        classes: int64 [N] in 0 .. K-1.
        num_classes: K.
        groups: int64 [N]; rows of one group, as views of one trajectory, are left out together. By
            default each row is alone.

    Returns:
        The layer: regression onto one-hot targets, times the temperature at which leave-one-out
        probabilities are likeliest.
    """
    features = features.double()
    center = features.mean(dim=0)
    centered = features - center
    targets = torch.nn.functional.one_hot(classes, num_classes).double()
    prior = targets.mean(dim=0)
    residual_targets = targets - prior
    gram = centered @ centered.T
    scale = gram.diagonal().mean()

    best: tuple[float, float, float, Tensor] | None = None
    for strength in STRENGTHS:
        dual, errors = solve_leaving_out(gram, residual_targets, strength * scale, groups)
        scores = targets - errors
        accuracy = (scores.argmax(dim=1) == classes).double().mean().item()
        if best is None or accuracy > best[0]:
            losses = [
                torch.nn.functional.cross_entropy(scores * temperature, classes).item()
                for temperature in TEMPERATURES
            ]
            temperature = TEMPERATURES[losses.index(min(losses))]
            best = (accuracy, strength, temperature, dual)
    assert best is not None
    accuracy, strength, temperature, dual = best
    weight = temperature * (dual.T @ centered)
    bias = temperature * prior - weight @ center
    return LinearFit(weight, bias, strength, accuracy)


def solve_leaving_out(
    gram: Tensor, targets: Tensor, penalty: Tensor, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Ridge regression, and the errors on each row of the regression without it.

    Args:
        gram: float64 [N, N], products of the rows, which are centred.
        targets: float64 [N, K], centred too.
        penalty: What is added to the diagonal: float64, above 0.
        groups: int64 [N]; rows of one group are left out together. None leaves out each alone.

    Returns:
        Dual coefficients, float64 [N, K]; and errors, float64 [N, K]: targets less what a
        regression predicts whose means, of features and targets, leave the row out too.
    """
    inverse = torch.linalg.inv(gram + penalty * torch.eye(len(gram)).double())
    dual = inverse @ targets
    # Leaves rows out of the means. Without it, centred features reveal a clip's class through the
    # others', and all look predictable.
    means = 1 / (penalty * len(gram))
    if groups is None or len(np.unique(groups.numpy())) == len(groups):
        return dual, dual / (inverse.diagonal() - means)[:, None]
    errors = torch.empty_like(dual)
    for group in np.unique(groups.numpy()):
        (rows,) = torch.nonzero(groups == group, as_tuple=True)
        errors[rows] = torch.linalg.solve(inverse[rows[:, None], rows] - means, dual[rows])
    return dual, errors
