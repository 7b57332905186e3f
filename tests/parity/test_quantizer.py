"""PyTorch's quantizer against the reference implementation's, on the edges of floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parity.suite import arrays

from magvit_export.layers.lfq import dequantize, quantize


@pytest.mark.parametrize("bits", [18, 14])
def test_pytorch_quantizes_the_edge_cases(bits: int) -> None:
    """Zeros of both signs, NaN, infinities, denormals: only z > 0 sets a bit."""
    data = arrays("lfq")
    ids = quantize(torch.from_numpy(data[f"z{bits}"]))
    assert ids.dtype == torch.int32
    np.testing.assert_array_equal(ids.numpy(), data[f"ids{bits}"])


def test_pytorch_dequantizes() -> None:
    data = arrays("lfq")
    codes = dequantize(torch.from_numpy(data["table_ids18"])[:, None], 18)
    np.testing.assert_array_equal(codes[..., 0].numpy(), data["table_codes18"])
    np.testing.assert_array_equal(quantize(codes)[:, 0].numpy(), data["table_ids18"])
