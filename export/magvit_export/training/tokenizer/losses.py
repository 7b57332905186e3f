"""What training minimises: how far clips are from their reconstructions, and the quantizer's terms.

Source: Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation", 2023
(arXiv 2310.05737), section 3: reconstruction, commitment and entropy. Its perceptual and
adversarial losses are left out: clips of trajectories are lines on a flat ground, and no network of
faces and fur says more of them than their pixels do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from magvit_export.training.tokenizer.options import LossWeights

# A line's surroundings count as drawn: what is painted there in error makes it thick or blurred.
_AROUND = 2
# Of a bit's probability: its entropy's slope stays finite.
_LEAST = 1e-6
# Of a bit's variance, which is 1/4 at most.
_FLOOR = 0.01


@dataclass(frozen=True)
class Losses:
    """The terms of one batch, before they are weighed; scalars.

    Attributes:
        reconstruction: Of pixels in -1..1.
        commitment: Mean square of latents minus their signs.
        certainty: Mean entropy of a bit of a token, 0..1 bit.
        variety: Entropy of the mean drawn token, a bit of it, as `quantizer_losses` estimates it;
            at most 1 bit, and below 0 where bits are copies.
    """

    reconstruction: Tensor
    commitment: Tensor
    certainty: Tensor
    variety: Tensor

    def total(self, weights: LossWeights) -> Tensor:
        """Their weighed sum."""
        return (
            self.reconstruction
            + weights.commitment * self.commitment
            + weights.certainty * self.certainty
            - weights.variety * self.variety
        )


def straight_through(latents: Tensor) -> Tensor:
    """The signs of latents as ±1, with the slope of the latents themselves (Bengio et al., 2013).

    Ties are those of `lfq.quantize`: 0 gives -1.
    """
    signs = torch.where(latents > 0, 1.0, -1.0).to(latents.dtype)
    return latents + (signs - latents).detach()


def reconstruction_loss(
    found: Tensor, wanted: Tensor, drawn: Tensor, weights: LossWeights
) -> Tensor:
    """Mean difference of pixels, of which the drawn ones have a share of their own.

    Weighed by their number, as a plain mean does, the flat ground has over nine tenths, and
    training may end in pictures of nothing else.

    Args:
        found: [N, 3, T, H, W], what the decoder gave.
        wanted: Of the same shape, in -1..1.
        drawn: bool [N, 1, T, H, W], as `drawn_pixels` gives it.
        weights: The shares.
    """
    difference = found - wanted
    each = weights.absolute * difference.abs() + (1 - weights.absolute) * difference.square()
    each = each.mean(dim=1, keepdim=True)
    inside = drawn.to(each.dtype)
    of_drawn = (each * inside).sum() / inside.sum().clamp(min=1)
    of_ground = (each * (1 - inside)).sum() / (1 - inside).sum().clamp(min=1)
    return weights.drawn * of_drawn + (1 - weights.drawn) * of_ground


def quantizer_losses(latents: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Commitment, certainty and variety of latents, as in `Losses`.

    The paper takes entropies over all 2^K codes, where code c has the probability softmax of
    -|z - c|². Its codes are all sign patterns, so that probability is a product over bits, of
    sigmoid(4·z_i) for +1. A token's entropy is then exactly the sum of its bits' entropies.

    The entropy of the batch's mean is the sum of the mean bits' entropies less their total
    correlation: what they tell of one another. Alone, the sum is a bound that balanced copies of
    one bit reach, and training finds those. Total correlation over 2^K codes can't be had from a
    few hundred tokens, so that of a normal distribution with the bits' covariance stands for it:
    half of Hadamard's gap, (Σ log C_ii - log det C) / 2 (Cover and Thomas, Elements of Information
    Theory, 2006, chapter 17). It is 0 where no two bits are correlated, and more than the true
    one where bits are nearly copies. All is given a bit, not a token.

    Variety is asked of drawn places only. The flat ground is most of a clip and one thing: one
    code is right for it, and forcing it onto many would leave its latents near 0, where the least
    rounding changes ids.

    Args:
        latents: float32 [N, K, t, h, w].
        drawn: bool [N, 1, t, h, w]: the tokens in whose place anything is drawn.
    """
    commitment = (latents - torch.where(latents > 0, 1.0, -1.0)).square().mean()
    chance = torch.sigmoid(4 * latents)
    certainty = bit_entropy(chance).mean()
    inside = drawn.to(chance.dtype)
    count = inside.sum().clamp(min=1)
    means = (chance * inside).sum(dim=(0, 2, 3, 4)) / count
    around = ((chance - means.view(-1, 1, 1, 1)) * inside).movedim(1, -1).flatten(0, -2)
    shared = total_correlation(around.T @ around / count) / len(means)
    return commitment, certainty, bit_entropy(means).mean() - shared


def bit_entropy(chance: Tensor) -> Tensor:
    """Entropy in bits, 0..1, of a bit that is 1 with a chance, elementwise."""
    p = chance.clamp(_LEAST, 1 - _LEAST)
    return -(p * torch.log2(p) + (1 - p) * torch.log2(1 - p))


def total_correlation(covariance: Tensor) -> Tensor:
    """Total correlation in bits, from 0, of a normal distribution with a covariance [K, K]."""
    # Bits that never change, or copies of each other, would have none or an infinite one.
    padded = covariance + _FLOOR * torch.eye(len(covariance), device=covariance.device)
    gap: Tensor = padded.diagonal().log().sum() - torch.linalg.slogdet(padded).logabsdet
    return gap / (2 * math.log(2))


def drawn_pixels(frames: Tensor, background: int) -> Tensor:
    """Which pixels are drawn on, or lie around such.

    Args:
        frames: uint8 [N, T, H, W, 3].
        background: Gray level of all others.

    Returns:
        bool [N, 1, T, H, W].
    """
    drawn = (frames != background).any(dim=-1)[:, None].float()
    side = 2 * _AROUND + 1
    return F.max_pool3d(drawn, (1, side, side), stride=1, padding=(0, _AROUND, _AROUND)) > 0


def drawn_tokens(drawn: Tensor, temporal_stride: int, spatial_stride: int) -> Tensor:
    """Which tokens have a drawn pixel in their place: their own frames, height and width.

    Args:
        drawn: bool [N, 1, T, H, W], T = stride·k + 1, H and W multiples of theirs.
        temporal_stride: Frames of a token; the first token has one.
        spatial_stride: Height and width of a token.

    Returns:
        bool [N, 1, t, h, w].
    """
    first = drawn[:, :, :1].expand(-1, -1, temporal_stride - 1, -1, -1)
    frames = torch.cat([first, drawn], dim=2).float()
    return F.max_pool3d(frames, (temporal_stride, spatial_stride, spatial_stride)) > 0
