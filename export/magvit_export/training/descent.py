"""Gradient descent on a classifier: AdamW, one cycle of the learning rate, the best epoch kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BATCH = 32
# Share of the steps in which the learning rate rises.
_RISING = 0.15


@dataclass(frozen=True)
class DescentOptions:
    """How gradients are followed.

    Attributes:
        epochs: Passes over the training clips, at most.
        learning_rate: AdamW's at its highest; it rises to it, and falls along half a cosine.
        weight_decay: AdamW's.
        smoothing: Share of the targets that is spread over all classes (Szegedy et al., 2016).
        precision: What convs are computed in; weights and losses stay float32.
        patience: Epochs without a lower loss on the validation clips after which training ends.
    """

    epochs: int
    learning_rate: float
    weight_decay: float = 0.01
    smoothing: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    patience: int = 10


def descend(
    model: nn.Module,
    inputs: Sequence[Tensor],
    truth: Tensor,
    validation: tuple[Sequence[Tensor], Tensor] | None,
    class_weights: Tensor | None,
    options: DescentOptions,
    generator: torch.Generator,
) -> int:
    """Trains a model in place.

    Args:
        model: Inputs to logits [N, K].
        inputs: Training clips, one tensor a source.
        truth: int64 [N], their classes.
        validation: Clips and classes on which the best epoch is found; its weights are kept. None
            keeps the last epoch's.
        class_weights: float [K]; None weighs all clips alike.
        options: How.
        generator: Orders the clips.

    Returns:
        The epoch whose weights the model has now, counted from 1; 0 where none was better than
        the start.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), options.learning_rate, weight_decay=options.weight_decay
    )
    steps = options.epochs * math.ceil(len(truth) / _BATCH)
    # Smith and Topin, "Super-Convergence", 2018.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=steps, pct_start=_RISING
    )
    best = _validation_loss(model, validation, class_weights)
    kept, kept_epoch = copy.deepcopy(model.state_dict()), 0
    for epoch in range(1, options.epochs + 1):
        model.train()
        for rows in torch.split(torch.randperm(len(truth), generator=generator), _BATCH):
            if len(rows) == 1 and len(truth) > 1:
                continue  # A batch norm can't tell the spread of one clip.
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
                logits = model(*(values[rows] for values in inputs))
            loss = F.cross_entropy(
                logits.float(), truth[rows], weight=class_weights, label_smoothing=options.smoothing
            )
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        if validation is None:
            continue
        found = _validation_loss(model, validation, class_weights)
        if found < best:
            best, kept, kept_epoch = found, copy.deepcopy(model.state_dict()), epoch
        elif epoch - kept_epoch >= options.patience:
            break
    model.eval()
    if validation is None:
        return options.epochs
    model.load_state_dict(kept)
    return kept_epoch


@torch.no_grad()
def _validation_loss(
    model: nn.Module,
    validation: tuple[Sequence[Tensor], Tensor] | None,
    class_weights: Tensor | None,
) -> float:
    if validation is None:
        return math.inf
    inputs, truth = validation
    model.eval()
    parts = torch.split(torch.arange(len(truth)), 256)
    logits = torch.cat([model(*(values[rows] for values in inputs)) for rows in parts])
    return F.cross_entropy(logits, truth, weight=class_weights).item()
