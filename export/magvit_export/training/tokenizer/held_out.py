"""Measures a tokenizer on clips that it isn't trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from magvit_export.families.magvit.tokenizer import MagvitTokenizer
from magvit_export.layers import lfq
from magvit_export.layers.pixels import to_bytes
from magvit_export.training.tokenizer.losses import drawn_pixels, drawn_tokens
from magvit_export.training.tokenizer.records import HeldOutRecord
from magvit_runtime.clips.trajectories import RenderStyle, Trajectory, render
from magvit_runtime.evaluation.code_use import CodeUse
from magvit_runtime.evaluation.pixel_quality import psnr

_AT_ONCE = 4


@torch.no_grad()
def measure(
    model: MagvitTokenizer,
    trajectories: Mapping[str, Sequence[Trajectory]],
    style: RenderStyle,
    step: int,
) -> HeldOutRecord:
    """Encodes and decodes trajectories in float32.

    Args:
        model: On any device.
        trajectories: By source.
        style: How they are drawn.
        step: Steps that the model was trained.
    """
    bits = model.config.z_channels
    every, of_drawn = CodeUse(2**bits), CodeUse(2**bits)
    drawn_ids: list[NDArray[np.int32]] = []
    ground_ids: list[NDArray[np.int32]] = []
    quality: dict[str, list[float]] = {name: [] for name in trajectories}
    ground: dict[str, list[float]] = {name: [] for name in trajectories}
    for name, items in trajectories.items():
        for first in range(0, len(items), _AT_ONCE):
            frames = render(items[first : first + _AT_ONCE], style)
            ids, found, drawn = _both_ways(model, frames, style.background)
            every.add(ids)
            drawn_ids.append(ids[drawn])
            ground_ids.append(ids[~drawn])
            quality[name] += psnr(frames, found).tolist()
            ground[name] += psnr(frames, np.full_like(frames, style.background)).tolist()
    used = np.concatenate(drawn_ids)
    of_drawn.add(used[None])
    return HeldOutRecord(
        step=step,
        size=style.height,
        clips={name: len(items) for name, items in trajectories.items()},
        psnr={name: float(np.mean(values)) for name, values in quality.items()},
        ground_psnr={name: float(np.mean(values)) for name, values in ground.items()},
        codes=len(np.unique(np.concatenate([used, *ground_ids]))),
        entropy=every.entropy().value,
        drawn_share=used.size / every.tokens,
        drawn_codes=len(np.unique(used)),
        drawn_entropy=of_drawn.entropy().value,
        ground_codes=len(np.unique(np.concatenate(ground_ids))),
        constant_bits=sum(len(np.unique(used >> bit & 1)) < 2 for bit in range(bits)),
    )


def _both_ways(
    model: MagvitTokenizer, frames: NDArray[np.uint8], background: int
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.bool_]]:
    """Ids, decoded frames, and which tokens are drawn ones."""
    clips = torch.from_numpy(frames).to(next(model.parameters()).device)
    ids = lfq.quantize(model.latents(clips))
    found = to_bytes(model.decode(ids))
    config = model.config
    drawn = drawn_tokens(
        drawn_pixels(clips, background), config.temporal_stride, config.spatial_stride
    )
    return ids.cpu().numpy(), found.cpu().numpy(), drawn[:, 0].cpu().numpy()
