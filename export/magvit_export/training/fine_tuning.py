"""Trains an encoder together with its classifier, through the signs that are its tokens.

A sign has no slope; the straight-through estimator (Bengio et al., 2013) gives it the latents' own.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from magvit_export.families.magvit.encoder import Encoder
from magvit_export.layers import lfq
from magvit_export.layers.pixels import normalize_pixels
from magvit_export.training.classifier import BitEmbedding, TrajectoryClassifier
from magvit_export.training.conv_head import ConvHead, Ensemble
from magvit_export.training.fitting import fit
from magvit_export.training.hidden_head import HiddenHead
from magvit_export.training.options import FitOptions
from magvit_export.training.sources import Tokens
from magvit_export.training.splitting import classes_of, split_by_class
from magvit_export.training.tokenizer.losses import straight_through
from magvit_runtime.clips.generated.draws import Draws
from magvit_runtime.clips.trajectories import Cameras, RenderStyle, Trajectory, render
from magvit_runtime.clips.variation import varied, warped
from magvit_runtime.errors import InputError, MagvitError

logger = logging.getLogger(__name__)

_BATCH = 4


@dataclass(frozen=True)
class FineTuneOptions:
    """Whether and how the encoder is trained too.

    Attributes:
        fine_tune: Trains the encoder through the signs of its latents, and then the classifier on
            the tokens that it makes; the bundle is a new one. Seconds a clip and epoch on a CPU.
        fine_tune_epochs: Passes over the training trajectories; the best on a part of them is kept.
        fine_tune_rate: AdamW's learning rate.
    """

    fine_tune: bool = False
    fine_tune_epochs: int = 3
    fine_tune_rate: float = 1e-4

    def __post_init__(self) -> None:
        if self.fine_tune_epochs < 1 or not self.fine_tune_rate > 0:
            raise InputError("`fine_tune_epochs` or `fine_tune_rate` is out of range")


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning gave.

    Attributes:
        epoch: The epoch that was kept; 0 is the start.
        losses: Loss on the validation trajectories, of the start and of each epoch.
    """

    epoch: int
    losses: tuple[float, ...]


def fine_tune(
    encoder: Encoder,
    trajectories: Sequence[Trajectory],
    groups: Sequence[int],
    style: RenderStyle,
    cameras: Cameras,
    options: FitOptions,
    how: FineTuneOptions,
    *,
    bits: int,
    vary: bool,
    advance: Callable[[int], None] = lambda _: None,
) -> FineTuned:
    """Trains an encoder in place on labelled trajectories; none of them may be a held-out one.

    Args:
        encoder: Of a tokenizer, with its weights.
        trajectories: With labels.
        groups: Number of each one's group; a group is trained on, or chooses the epoch.
        style: How they are drawn.
        cameras: See trajectories in space.
        options: The head that it is trained with.
        how: Epochs and rate.
        bits: Of a token.
        vary: Whether each pass shows them varied.
        advance: Called with the number of trajectories just seen.

    Raises:
        InputError: The head takes ids in a way that signs can't.
        MagvitError: The loss is no number any more.
    """
    if options.head in ("auto", "linear") and options.embedding != "bits":
        raise InputError(
            "an encoder is trained through the bits of its tokens",
            found=f"--embedding {options.embedding}",
            expected="--embedding bits, or --head conv",
        )
    classes, targets = classes_of([item.label for item in trajectories])
    rows = np.arange(len(targets))
    share = options.validation or 0.1
    train, checked = split_by_class(targets, rows, share, options.seed, np.array(groups))
    if not len(checked):
        raise InputError("there are too few trajectories to fine-tune on", found=len(targets))

    def frames_of(items: Sequence[Trajectory]) -> Tensor:
        return torch.from_numpy(render(items, style, cameras))

    # What chooses the epoch is unknown to the head too, else the start would always be the best.
    start = [_ids(encoder, frames_of([trajectories[row]])) for row in train]
    labels = [trajectories[row].label or "" for row in train for _ in range(cameras.views)]
    tokens = Tokens(torch.cat(start).numpy(), 2**bits)
    of_views = np.repeat(np.array(groups)[train], cameras.views)
    head = fit([tokens], labels, options, groups=of_views, classes=classes).module
    assert isinstance(head, TrajectoryClassifier | HiddenHead | ConvHead | Ensemble)
    head.requires_grad_(True)
    encoder.requires_grad_(True)
    both = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(both, how.fine_tune_rate)
    random = torch.Generator().manual_seed(options.seed)

    def loss_of(items: Sequence[Trajectory], truth: Tensor) -> Tensor:
        latents = encoder(normalize_pixels(frames_of(items), torch.float32))
        logits = logits_of_signs(head, straight_through(latents))
        return F.cross_entropy(logits, truth.repeat_interleave(cameras.views))

    def validation_loss() -> float:
        with torch.no_grad():
            losses = [
                loss_of([trajectories[row]], torch.from_numpy(targets[[row]])).item()
                for row in checked
            ]
        return float(np.mean(losses))

    losses = [validation_loss()]
    kept, epoch = copy.deepcopy(encoder.state_dict()), 0
    for number in range(1, how.fine_tune_epochs + 1):
        for places in torch.split(torch.randperm(len(train), generator=random), _BATCH):
            chosen = train[places.numpy()]
            items = [trajectories[row] for row in chosen]
            if vary:
                draws = [Draws(options.seed, number, int(row)) for row in chosen]
                items = [warped(varied(item, d), d) for item, d in zip(items, draws, strict=True)]
            optimizer.zero_grad()
            loss = loss_of(items, torch.from_numpy(targets[chosen]))
            if not torch.isfinite(loss):
                raise MagvitError(
                    f"fine-tuning diverged in epoch {number}", mend="lower --fine-tune-rate"
                )
            torch.autograd.backward(loss)
            optimizer.step()
            advance(len(items))
        losses.append(validation_loss())
        logger.info("epoch %d: validation loss %.4f", number, losses[-1])
        if losses[-1] < min(losses[:-1]):
            kept, epoch = copy.deepcopy(encoder.state_dict()), number
    encoder.load_state_dict(kept)
    encoder.requires_grad_(False)
    return FineTuned(epoch, tuple(losses))


def logits_of_signs(head: nn.Module, signs: Tensor) -> Tensor:
    """What a head makes of signs as it does of the ids that have them as bits.

    Args:
        head: Over bits.
        signs: float [N, bits, t, h, w], ±1.

    Returns:
        float [N, K].
    """
    match head:
        case TrajectoryClassifier():
            assert isinstance(head.embedding, BitEmbedding)
            embedded = head.embedding.linear(signs.movedim(1, -1))
            logits: Tensor = head.head(embedded.flatten(1))
            return logits
        case HiddenHead() | ConvHead():
            return head.of_signs(signs)
        case Ensemble():
            each = [logits_of_signs(one, signs).softmax(dim=1) for one in head.members]
            return torch.stack(each).mean(dim=0).log()
    raise TypeError(type(head))


@torch.no_grad()
def _ids(encoder: Encoder, frames: Tensor) -> Tensor:
    return lfq.quantize(encoder(normalize_pixels(frames, torch.float32)))
