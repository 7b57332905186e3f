"""Any small encoder of the family, in the native backend and in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from runtime.backends.native.graphs import FRAMES, Encoder, encoders

from magvit_runtime import BackendError
from magvit_runtime.backends.native.cpu.session import CpuSession

# A group of one value has the variance 0, and its rounding is then divided by sqrt(epsilon).
TOLERANCE = 1e-3


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(encoders(), st.integers(1, 3), st.integers(1, 6), st.integers(4, 30), st.integers(4, 30))
def test_latents_are_those_of_onnxruntime(
    drawn: tuple[Encoder, str], batch: int, time: int, height: int, width: int
) -> None:
    encoder, latents = drawn
    sizes = (time, height, width) if encoder.is_video else (height, width)
    frames = encoder.random.integers(0, 256, (batch, *sizes, 3), np.uint8)
    with TemporaryDirectory() as folder:
        path = encoder.save(latents, Path(folder) / "encoder.onnx")
        reference = onnxruntime.InferenceSession(path)
        try:
            ids, expected = reference.run(["ids", latents], {FRAMES: frames})
        except Exception:  # ONNX Runtime's own exceptions share no base of their own.
            ids = expected = None
        with CpuSession(path, precision="fp32", threads=2, reason="") as session:
            if expected is None or expected.size == 0:
                check_refused(session, frames)
                return
            found_ids, found = session.run({FRAMES: frames}, ["ids", latents])
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale)
    clear = np.abs(expected).min(axis=1) > TOLERANCE * scale
    assume(clear.any())
    np.testing.assert_array_equal(found_ids[clear], ids[clear])


def check_refused(session: CpuSession, frames: np.ndarray) -> None:
    """Clips that are too small for the convs."""
    with pytest.raises(BackendError, match="the native backend can't run clips of this size"):
        session.run({FRAMES: frames}, ["ids"])
