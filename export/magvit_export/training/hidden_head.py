"""A head with one hidden layer of random units, of which only the last layer learns classes.

Bits go through a wide Gaussian filter, because movements of a class pass near each other, seldom
through the same place. Principal components keep what changes from clip to clip. Random units with
a ReLU make products of places and times out of them: ridge regression on such units approaches
that with an arc-cosine kernel (Cho & Saul, "Kernel Methods for Deep Learning", 2009; random
features: Rahimi & Recht, 2007). docs/accuracy.md says what it brings, and that it needs varied
copies.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from magvit_export.training.classifier import signs_of
from magvit_export.training.ridge import fit_linear

# Standard deviation of the filter, as a share of the shorter side: 3 tokens of 16.
SPREAD = 3 / 16
# The filter ends after so many standard deviations.
_REACH = 2.0
# Places of a side that are left after the filter.
_MOST_PLACES = 8
# Principal components of each step of time.
_MOST_COMPONENTS = 64
_MOST_UNITS = 8192
# Of the whole head; what a bundle takes is a little more.
_MOST_WEIGHTS = 2_950_000
# Of the ridge regression, as multiples of the mean squared length of what the units give.
STRENGTHS = (0.01, 0.03, 0.1, 0.3)
# Clips in memory as maps at once.
_AT_ONCE = 256


class HiddenHead(nn.Module):
    """Token ids of a clip to logits of its class.

    Args:
        vocab_size: Number of ids; a power of two from 4 to 2^31.
        num_classes: K.
        grid: Tokens per clip, [t, h, w] or [h, w].
    """

    def __init__(self, vocab_size: int, *, num_classes: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.bits = vocab_size.bit_length() - 1
        # Of images too: a conv over one step of time.
        self.lacks_time = len(grid) == 2
        steps, height, width = (1, *grid) if self.lacks_time else grid
        spread = SPREAD * min(height, width)
        reach = math.ceil(_REACH * spread)
        down, across = (-(-side // _MOST_PLACES) for side in (height, width))
        rows, columns = height // down, width // across
        lines = [_gaussian(stride + 2 * reach, spread) for stride in (down, across)]
        self.blur = nn.Conv3d(
            self.bits,
            self.bits,
            (1, len(lines[0]), len(lines[1])),
            (1, down, across),
            padding=(0, reach, reach),
            bias=False,
        )
        with torch.no_grad():
            # Each bit by itself; the native backend has no groups of channels.
            plane = torch.outer(*lines).float()
            self.blur.weight.zero_()
            for bit in range(self.bits):
                self.blur.weight[bit, bit, 0] = plane
        numbers = self.bits * rows * columns
        components = min(_MOST_COMPONENTS, numbers)
        fixed = self.blur.weight.numel() + components * numbers
        per_unit = components * steps + 1 + num_classes
        units = min(_MOST_UNITS, max(1, (_MOST_WEIGHTS - fixed - num_classes) // per_unit))
        self.components = nn.Conv3d(self.bits, components, (1, rows, columns), bias=False)
        self.units = nn.Conv3d(components, units, (steps, 1, 1))
        self.head = nn.Linear(units, num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> logits [N, K]."""
        return self.of_signs(signs_of(ids, self.bits).movedim(-1, 1))

    def of_signs(self, signs: Tensor) -> Tensor:
        """Bits as ±1, float [N, bits, t, h, w] -> logits [N, K]."""
        volumes = signs.unsqueeze(2) if self.lacks_time else signs
        hidden = self.units(self.components(self.blur(volumes))).relu()
        logits: Tensor = self.head(hidden.flatten(1))
        return logits

    def blurred(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> filtered bits, float [N, bits, t, places, places]."""
        signs = signs_of(ids, self.bits).movedim(-1, 1)
        maps: Tensor = self.blur(signs.unsqueeze(2) if self.lacks_time else signs)
        return maps


@torch.no_grad()
def fit_hidden(
    ids: Tensor,
    vocab_size: int,
    targets: Tensor,
    num_classes: int,
    groups: Tensor,
    weights: Tensor | None,
    seed: int,
) -> tuple[HiddenHead, dict[str, str | int | float]]:
    """Fits a head in closed form.

    Args:
        ids: int32 [N, t, h, w] or [N, h, w].
        vocab_size: Number of ids.
        targets: int64 [N] in 0 .. K-1.
        num_classes: K.
        groups: int64 [N]; rows of one group are left out together where the strength is chosen.
        weights: [N], how much each row counts; None weighs all alike.
        seed: Of the random units.

    Returns:
        The head, and what fitting found.
    """
    head = HiddenHead(vocab_size, num_classes=num_classes, grid=tuple(ids.shape[1:]))
    maps = torch.cat([head.blurred(part) for part in torch.split(ids, _AT_ONCE)])
    # [N, t, bits · places]: less their means, so that no component is spent on what never changes.
    slices = maps.movedim(2, 1).flatten(2)
    deviations = (slices - slices.mean(dim=0)).flatten(0, 1)
    # Of the widest spread last.
    _, axes = torch.linalg.eigh((deviations.T @ deviations).double())
    head.components.weight.copy_(
        axes.flip(1)[:, : len(head.components.weight)].T.reshape(head.components.weight.shape)
    )
    parts = head.components(maps)
    middle = parts.mean(dim=0)
    # A unit's numbers before the ReLU are around 0, and about 1 large.
    length = (parts - middle).square().flatten(1).sum(dim=1).mean().sqrt().clamp_min(1e-12)
    random = torch.Generator().manual_seed(seed)
    head.units.weight.copy_(torch.randn(head.units.weight.shape, generator=random) / length)
    assert head.units.bias is not None
    head.units.bias.copy_(-torch.einsum("uctyx,ctyx->u", head.units.weight, middle))
    hidden = torch.cat(
        [head.units(part).relu().flatten(1) for part in torch.split(parts, _AT_ONCE)]
    )
    fitted = fit_linear(
        hidden, targets, num_classes, groups, weights, strengths=STRENGTHS, chosen_by="loss"
    )
    head.head.weight.copy_(fitted.weight)
    head.head.bias.copy_(fitted.bias)
    return head, {"strength": fitted.strength, "units": len(head.units.weight)}


def _gaussian(length: int, spread: float) -> Tensor:
    """A line whose numbers sum to 1, float64 [length]."""
    places = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
    return (-places.square() / (2 * spread**2)).softmax(dim=0)
