"""One step of training: clips, losses, gradients, and the moving average."""

from __future__ import annotations

import math
import time

import torch

from magvit_export.layers.pixels import normalize_pixels
from magvit_export.training.tokenizer.clips import Recorded, style_of, training_clips
from magvit_export.training.tokenizer.losses import (
    Losses,
    drawn_pixels,
    drawn_tokens,
    quantizer_losses,
    reconstruction_loss,
    straight_through,
)
from magvit_export.training.tokenizer.options import Stage, TokenizerOptions
from magvit_export.training.tokenizer.records import StepRecord
from magvit_export.training.tokenizer.state import TrainingState
from magvit_runtime.errors import MagvitError

_LOWEST_RATE = 0.05


def train_step(state: TrainingState, data: Recorded, options: TokenizerOptions) -> StepRecord:
    """Trains on the clips of the state's next step.

    Raises:
        MagvitError: Losses or gradients are no numbers any more.
    """
    begin = time.perf_counter()
    stage, place = options.stage_of(state.step)
    style = style_of(stage.size, options.frames)
    drawn_clips = training_clips(
        data, style, seed=options.seed, step=state.step, count=options.batch
    )
    frames = torch.from_numpy(drawn_clips).to(options.device)
    rate = learning_rate(options, stage, place)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    losses = clip_losses(state, frames, style.background, options)
    total = losses.total(options)
    state.optimizer.zero_grad()
    torch.autograd.backward(total)
    gradient = torch.nn.utils.clip_grad_norm_(state.model.parameters(), options.clip_norm)
    loss, length = float(total.detach()), float(gradient)
    if not math.isfinite(loss) or not math.isfinite(length):
        raise MagvitError(
            f"training diverged at step {state.step + 1}",
            found=f"loss {loss}, gradient {length}",
            mend="train anew with a lower --learning-rate",
        )
    state.optimizer.step()
    state.step += 1
    state.update_average(options.decay)
    return StepRecord(
        state.step,
        stage.size,
        rate,
        loss,
        float(losses.reconstruction.detach()),
        float(losses.commitment.detach()),
        float(losses.certainty.detach()),
        float(losses.variety.detach()),
        length,
        round(time.perf_counter() - begin, 3),
    )


def clip_losses(
    state: TrainingState, frames: torch.Tensor, background: int, options: TokenizerOptions
) -> Losses:
    """All terms for a batch of clips, uint8 [N, T, H, W, 3]."""
    config = state.model.config
    wanted = normalize_pixels(frames, torch.float32)
    pixels = drawn_pixels(frames, background)
    tokens = drawn_tokens(pixels, config.temporal_stride, config.spatial_stride)
    kind = torch.device(options.device).type
    with torch.autocast(kind, torch.bfloat16, enabled=options.precision == "bf16"):
        latents = state.model.encoder(wanted).float()
        found = state.model.decoder(straight_through(latents)).float()
    reconstruction = reconstruction_loss(found, wanted, pixels, options)
    return Losses(reconstruction, *quantizer_losses(latents, tokens))


def learning_rate(options: TokenizerOptions, stage: Stage, place: int) -> float:
    """The learning rate of a step, by its place in its stage."""
    warm = min(1.0, (place + 1) / (options.warm_up + 1))
    falling = 0.5 * (1 + math.cos(math.pi * place / stage.steps))
    return options.learning_rate * warm * (_LOWEST_RATE + (1 - _LOWEST_RATE) * falling)
