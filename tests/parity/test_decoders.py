"""PyTorch's decoder against frames that the reference implementation decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity.encoders import Encoders
from parity.suite import MODELS, Model, arrays

FRAME_TOLERANCE = 3e-5
HALF_FRAME_TOLERANCE = 3e-3  # Rounding the stored float16 alone reaches 2e-3.
FLOAT64_TOLERANCE = 1e-6  # Rounding of the stored float32, absolute and relative.

CASES = [
    pytest.param(model, case, id=case, marks=model.marks)
    for model in MODELS
    for case in model.cases("raw")
]
SHORT_CASES = [case for case in CASES if not str(case.id).startswith("t17")]


def rows_of(frames: NDArray[Any]) -> NDArray[Any]:
    """The rows of which golden values are stored in float32: first, middle and last."""
    height = frames.shape[-2]
    return frames[..., [0, height // 2, height - 1], :]


@pytest.mark.parametrize(("model", "case"), CASES)
def test_pytorch_decodes_in_float32(encoders: Encoders, model: Model, case: str) -> None:
    decoder = encoders.pytorch(model, "raw", torch.float32)
    frames = decoder.decode(torch.from_numpy(model.value(case, "ids_raw"))).numpy()
    # Time and space as they were: the decoder is the encoder's inverse in shape.
    assert np.moveaxis(frames, 1, -1).shape == model.frames(case).shape
    np.testing.assert_allclose(
        rows_of(frames), model.value(case, "rec_rows_raw"), rtol=0, atol=FRAME_TOLERANCE
    )
    whole = arrays(model.fixture).get(f"{case}.rec_raw")
    if whole is not None:
        tolerance = HALF_FRAME_TOLERANCE if whole.dtype == np.float16 else FRAME_TOLERANCE
        np.testing.assert_allclose(frames, whole, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("model", "case"), SHORT_CASES)
def test_pytorch_decodes_in_float64(encoders: Encoders, model: Model, case: str) -> None:
    decoder = encoders.pytorch(model, "raw", torch.float64)
    with torch.no_grad():
        frames = decoder.decode(torch.from_numpy(model.value(case, "ids_raw"))).numpy()
    assert frames.dtype == np.float64
    tolerances = {"rtol": FLOAT64_TOLERANCE, "atol": FLOAT64_TOLERANCE}
    np.testing.assert_allclose(rows_of(frames), model.value(case, "rec_rows_raw"), **tolerances)
