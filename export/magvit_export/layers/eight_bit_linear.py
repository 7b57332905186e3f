"""A matrix product whose weights have 8 bits each, with a scale for each block of a row."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 128  # Weights of a row that share a scale.
_ZERO = 128
_INT8_PRODUCTS = 4  # Of ONNX Runtime's `accuracy_level`: inputs are rounded to 8 bits too.


class EightBitLinear(nn.Module):
    """ONNX Runtime's `MatMulNBits`, and in PyTorch what it means but for rounding of its inputs.

    A weight is (q - 128) · s, with q in 1 .. 255 and s the largest weight of its block over 127.

    Args:
        weight: float [c_out, c_in].
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.c_out, self.c_in = weight.shape
        rows = weight.detach().float()
        blocks = F.pad(rows, (0, -self.c_in % BLOCK)).view(self.c_out, -1, BLOCK)
        scales = blocks.abs().amax(-1) / 127
        safe = torch.where(scales > 0, scales, torch.ones_like(scales))
        quantized = (blocks / safe[..., None]).round() + _ZERO
        self.weight = nn.Parameter(quantized.to(torch.uint8), requires_grad=False)
        self.scales = nn.Parameter(scales, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., c_in] -> [..., c_out]."""
        if torch.onnx.is_in_onnx_export():
            return torch.onnx.ops.symbolic(
                "com.microsoft::MatMulNBits",
                (x, self.weight, self.scales),
                {
                    "K": self.c_in,
                    "N": self.c_out,
                    "bits": 8,
                    "block_size": BLOCK,
                    "accuracy_level": _INT8_PRODUCTS,
                },
                dtype=x.dtype,
                shape=(*x.shape[:-1], self.c_out),
                version=1,
            )
        steps = self.weight.to(x.dtype) - _ZERO
        rows = (steps * self.scales[..., None].to(x.dtype)).flatten(1)[:, : self.c_in]
        return F.linear(x, rows)
