"""A small 3-D CNN over the bits of token ids: it sees how neighbouring tokens go together."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from magvit_export.training.classifier import signs_of

CHANNELS = (48, 64, 96, 128)
# Of height and width; time is kept.
STRIDES = (2, 1, 2, 1)


class ConvHead(nn.Module):
    """Token ids of a clip to logits of its class.

    Bits as ±1 go through four convs of 3 x 3 x 3, each with a batch norm and a ReLU; two of them
    halve height and width. One linear layer reads what is left at every place.

    Args:
        vocab_size: Number of ids; a power of two from 4 to 2^31.
        num_classes: K.
        grid: Tokens per clip, [t, h, w] or [h, w].
        dropout: Share of what the linear layer reads that is dropped in training.
    """

    def __init__(
        self, vocab_size: int, *, num_classes: int, grid: tuple[int, ...], dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.bits = vocab_size.bit_length() - 1
        # Of images too: a conv over one step of time.
        self.lacks_time = len(grid) == 2
        layers: list[nn.Module] = []
        sides = grid[-2:]
        widths = pairwise((self.bits, *CHANNELS))
        for (before, after), stride in zip(widths, STRIDES, strict=True):
            sides = tuple(-(-side // stride) for side in sides)
            layers += [
                nn.Conv3d(before, after, 3, (1, stride, stride), padding=1, bias=False),
                nn.BatchNorm3d(after),
                nn.ReLU(),
            ]
        self.convs = nn.Sequential(*layers)
        steps = 1 if self.lacks_time else grid[0]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(CHANNELS[-1] * steps * sides[0] * sides[1], num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> logits [N, K]."""
        return self.of_signs(signs_of(ids, self.bits).movedim(-1, 1))

    def of_signs(self, signs: Tensor) -> Tensor:
        """Bits as ±1, float [N, bits, t, h, w] -> logits [N, K]."""
        volumes = signs.unsqueeze(2) if self.lacks_time else signs
        if not torch.onnx.is_in_onnx_export():
            # Torch computes this layout faster on a CPU.
            volumes = volumes.contiguous(memory_format=torch.channels_last_3d)
        maps = self.convs(volumes)
        logits: Tensor = self.head(self.dropout(maps.flatten(1)))
        return logits

    def folded(self) -> ConvHead:
        """A copy for inference whose batch norms are part of its convs."""
        head = copy.deepcopy(self).eval()
        layers: list[nn.Module] = []
        for layer in head.convs:
            if isinstance(layer, nn.BatchNorm3d):
                conv = layers.pop()
                assert isinstance(conv, nn.Conv3d)
                layers.append(fuse_conv_bn_eval(conv, layer))
            else:
                layers.append(layer)
        head.convs = nn.Sequential(*layers)
        return head


class Ensemble(nn.Module):
    """Heads whose probabilities are averaged."""

    def __init__(self, members: list[ConvHead]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> logits [N, K]: logarithms of the mean probabilities."""
        each = torch.stack([member(ids).softmax(dim=1) for member in self.members])
        return each.mean(dim=0).log()
