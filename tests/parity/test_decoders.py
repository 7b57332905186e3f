"""Decoders against frames that the reference implementation decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity.encoders import Encoders
from parity.suite import MODELS, WAYS, Model, Way, arrays, why_not_here

from magvit_runtime.agreement.limits import PIXEL_LIMITS

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
    """The rows whose golden values are stored in float32: first, middle and last."""
    height = frames.shape[-2]
    return frames[..., [0, height // 2, height - 1], :]


@pytest.mark.parametrize(("model", "case"), CASES)
def test_pytorch_decodes_in_float32(encoders: Encoders, model: Model, case: str) -> None:
    decoder = encoders.pytorch(model, "raw", torch.float32)
    frames = decoder.decode(torch.from_numpy(model.value(case, "ids_raw"))).numpy()
    # Time and space are restored: the decoder is the encoder's inverse in shape.
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


WAYS_TO_PIXELS = [
    pytest.param(
        way,
        id=way.name,
        marks=pytest.mark.skipif(bool(why_not_here(way)), reason=why_not_here(way)),
    )
    for way in WAYS
    if way.backend in ("onnxruntime", "native")
]


def to_bytes(frames: NDArray[Any]) -> NDArray[np.int64]:
    """(x+1)/2 clamped to 0..1, times 255, and the nearest integer; channels last."""
    unit = np.clip((np.moveaxis(frames.astype(np.float64), 1, -1) + 1) / 2, 0, 1)
    return np.floor(unit * 255 + 0.5).astype(np.int64)


@pytest.mark.parametrize("way", WAYS_TO_PIXELS)
@pytest.mark.parametrize(("model", "case"), CASES)
def test_decoded_bytes_are_the_references(
    encoders: Encoders, model: Model, case: str, way: Way
) -> None:
    if way.precision == "fp16" and model.topology not in (None, "16x_z18"):
        pytest.skip("two topologies of one family are enough for half precision")
    ids = model.value(case, "ids_raw").astype(np.int32)
    pixels = encoders.decode(model, way, ids)
    assert pixels.dtype == np.uint8
    assert pixels.shape == model.frames(case).shape
    height = pixels.shape[-3]
    compared = [(pixels[..., [0, height // 2, height - 1], :, :], "rec_rows_raw")]
    if f"{case}.rec_raw" in arrays(model.fixture):
        compared.append((pixels, "rec_raw"))
    for ours, stored in compared:
        errors = np.abs(ours - to_bytes(model.value(case, stored)))
        if way.rule == "fp32":
            assert errors.max() <= 1
            assert np.mean(errors == 0) >= 0.99
        else:
            assert way.rule != "fp64"
            limits = PIXEL_LIMITS[way.rule]
            assert errors.max() <= limits.max
            assert np.sqrt(np.mean(errors**2)) <= limits.rms
